"""fetch.py on the pod: signed URLs of a real HTTP server, breaks in the middle, wrong bytes, secrets unprinted."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT

BODY = os.urandom(300_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
# No waiting between attempts in a test.
PROGRAM = """
import runpy, sys
main = runpy.run_path(sys.argv[1])["main"]
main.__globals__["PAUSE"] = 0
sys.exit(main())
"""


class Server(http.server.ThreadingHTTPServer):
    """Counts what it was asked for; its first answers break off."""

    seen: list[tuple[str, str | None]]
    breaks: int


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.seen.append((self.path, self.headers.get("Range")))
        if "forbidden" in self.path:
            self.send_error(403)
            return
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.headers.get("Range") else 0
        if start >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        cut = len(self.server.seen) <= self.server.breaks
        self.wfile.write(BODY[start : start + 100_000] if cut else BODY[start:])

    def log_message(self, *_: int | str) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.seen, made.breaks = [], 0
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def fetch(tmp_path: Path, server: Server) -> Callable[..., Any]:
    def run(path: str = "/secret-signature", sha256: str = DIGEST, sources: bool = True, dest: str = "a/d.jsonl") -> tuple[int, str, Path]:
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "input").mkdir(exist_ok=True)
        files = [{"dest": dest, "sha256": sha256, "bytes": len(BODY)}]
        (tmp_path / "run" / "data.json").write_text(json.dumps({"hub": None, "files": files}))
        if sources:
            url = f"http://127.0.0.1:{server.server_port}{path}"
            (tmp_path / "input" / ".sources.json").write_text(json.dumps({dest: url}))
        env = {"RUN_DIR": str(tmp_path / "run"), "INPUT_DIR": str(tmp_path / "input"), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, ROOT / "templates" / "common" / "fetch.py"], env=env, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr, tmp_path / "input" / "a" / "d.jsonl"

    return run


def test_a_file_is_fetched_once_and_checked(fetch: Callable[..., Any], server: Server) -> None:
    code, log, path = fetch()
    assert code == 0 and path.read_bytes() == BODY and "fetch: a/d.jsonl, 300000 bytes" in log
    assert fetch()[0] == 0 and len(server.seen) == 1


def test_a_download_that_breaks_goes_on_where_it_was(fetch: Callable[..., Any], server: Server) -> None:
    server.breaks = 2
    code, log, path = fetch()
    assert code == 0 and path.read_bytes() == BODY
    assert [range_ for _, range_ in server.seen] == [None, "bytes=100000-", "bytes=200000-"]
    assert "attempt 1 of 5 failed" in log and "secret-signature" not in log


def test_other_bytes_than_announced_are_refused_and_removed(fetch: Callable[..., Any]) -> None:
    code, log, path = fetch(sha256="0" * 64)
    assert code == 1 and "other than announced" in log
    assert not path.exists() and not path.with_name("d.jsonl.part").exists()


@pytest.mark.parametrize("dest", ["/escaped.txt", "../up.txt", "a/../../up.txt", "a//b", ""])
def test_a_name_that_leads_out_of_the_folder_is_never_written(dest: str, fetch: Callable[..., Any], server: Server, tmp_path: Path) -> None:
    code, log, _ = fetch(dest=dest)
    assert code == 1 and "would not lie below input/" in log and server.seen == []


@pytest.mark.parametrize(
    ("hub", "wanted"),
    [
        ({"path": None, "split": "test"}, ["*test*.jsonl", "*test*.parquet"]),
        ({"path": "en/", "split": "test"}, ["en/*test*.jsonl", "en/*test*.parquet"]),
        ({"path": "en", "split": None}, ["en", "en/*"]),
        ({"path": None, "split": None}, ["*.jsonl", "*.parquet"]),
    ],
)
def test_only_the_files_of_a_split_are_fetched_from_the_hub(tmp_path: Path, hub: dict[str, Any], wanted: list[str]) -> None:
    (tmp_path / "huggingface_hub.py").write_text(
        "def snapshot_download(repo, **given): print(repo, given['revision'], given['allow_patterns'])\n"
    )
    (tmp_path / "data.json").write_text(json.dumps({"files": [], "hub": {"repo": "o/n", "revision": "v1", **hub}}))
    env = {"RUN_DIR": str(tmp_path), "INPUT_DIR": str(tmp_path), "PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, ROOT / "templates" / "common" / "fetch.py"], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("o/n v1 [") and all(repr(pattern) in done.stdout for pattern in wanted)


def test_what_was_half_fetched_cannot_be_taken_for_data(fetch: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "input/a").mkdir(parents=True)
    (tmp_path / "input/a/d.jsonl.part").write_text("a file of its own")
    code, _, path = fetch()
    assert code == 0 and path.with_name("d.jsonl.part").read_text() == "a file of its own"
    assert not (tmp_path / "input/.fetch").exists()


def test_a_refusal_is_final_and_the_url_is_not_printed(fetch: Callable[..., Any], server: Server) -> None:
    code, log, path = fetch("/forbidden?sig=hidden")
    assert code == 1 and "403" in log and len(server.seen) == 1
    assert "hidden" not in log and not path.exists()


def test_a_file_without_a_url_is_named(fetch: Callable[..., Any]) -> None:
    code, log, _ = fetch(sources=False)
    assert code == 1 and "a/d.jsonl is not here" in log
