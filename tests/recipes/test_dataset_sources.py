"""data.build over what it is given: several sources, preferences, Parquet, a data set of the Hub; a build that is ended from outside."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.dataset import build, command, environment, lines, surroundings
from trainyard.filelock import hold_lock

FIRST, SECOND = ({"prompt": f"What is number {word}?", "completion": f"It is the {word} of them all."} for word in ("one", "two"))
COMMIT = "a" * 40


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return surroundings(tmp_path)


def test_sources_of_one_name_stay_apart_and_each_row_is_told_by_its_own(env: dict[str, str], tmp_path: Path) -> None:
    for number, row in enumerate((FIRST, SECOND, FIRST)):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "rows.jsonl").write_text(json.dumps(row) + "\n")
    build(env, *(str(tmp_path / str(number) / "rows.jsonl") for number in range(3)), "--to", os.path.relpath(tmp_path / "out.jsonl", ROOT))
    assert lines(tmp_path / "out.jsonl") == [FIRST, SECOND]
    assert lines(tmp_path / "out.dropped.jsonl") == [{"place": "3/rows.jsonl:1", "reason": "duplicate", "kept": "rows.jsonl:1"}]


def test_preferences_become_one_form_and_stand_beside_no_other_rows(env: dict[str, str], tmp_path: Path) -> None:
    source, rows = tmp_path / "pairs.jsonl", tmp_path / "out.jsonl"
    pair = {"prompt": "Why is the sky blue?", "chosen": "It scatters blue light.", "rejected": "Because it is."}
    source.write_text(json.dumps({"question": pair["prompt"], **pair, "prompt": None, "margin": 1}) + "\n")
    build(env, str(source), "--to", str(rows))
    assert lines(rows) == [pair]
    source.write_text("".join(json.dumps(row) + "\n" for row in (pair, FIRST)))
    told = build(env, str(source), "--to", str(tmp_path / "both.jsonl"), code=2)
    assert "(the first: pairs.jsonl:1)" in told and "(the first: pairs.jsonl:2)" in told and not list(tmp_path.glob("*both*"))


def test_parquet_is_read_by_the_environment_of_the_recipe(env: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import json, sys, pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.Table.from_pylist(json.loads(sys.argv[1])), 'p.parquet')"
    )
    talk = [{"role": "user", "content": "Are you there?"}, {"role": "assistant", "content": "Yes, I am."}]
    rows = [{"messages": talk, "tags": ["a"]}, {"messages": None, "tags": None}]
    subprocess.run([environment("dataset") / "bin" / "python", "-c", program, json.dumps(rows)], cwd=tmp_path, check=True)
    told = build(env, str(tmp_path / "p.parquet"), "--to", str(tmp_path / "out.jsonl"))
    assert lines(tmp_path / "out.jsonl") == [{"messages": talk}] and "p.parquet:2: " in told
    assert json.loads((tmp_path / "out.report.json").read_text())["tags"] == {"a": 1}


@pytest.fixture
def hub() -> Iterator[str]:
    """Serve a data set of the Hub with files of two splits, as its API and its downloads answer."""
    files = {f"data/{split}.jsonl": json.dumps(row).encode() + b"\n" for split, row in (("train", FIRST), ("test", SECOND))}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            name = self.path.partition(f"/resolve/{COMMIT}/")[2]
            if self.path.startswith("/api/datasets/owner/name/tree/"):
                tree = [{"type": "file", "path": each, "size": len(body), "oid": "0" * 40} for each, body in files.items()]
                self.say(200, json.dumps(tree).encode())
            elif self.path.startswith("/api/datasets/owner/name"):
                self.say(200, json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": each} for each in files]}).encode())
            elif name in files:
                self.say(200, files[name], {"ETag": f'"{"b" * 40}"', "X-Repo-Commit": COMMIT})
            else:
                self.say(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for header, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(header, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_data_set_of_the_hub_is_fetched_by_its_own_client(env: dict[str, str], hub: str, tmp_path: Path) -> None:
    there = {name: value for name, value in env.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    there |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    build(there, "hf://owner/name", "--to", str(tmp_path / "out.jsonl"))
    assert lines(tmp_path / "out.jsonl") == [FIRST]


def begin(env: dict[str, str], source: Path, to: Path) -> subprocess.Popen[str]:
    """Begin a build that takes a while; return when it keeps rows."""
    draw = random.Random(3)
    text = (" ".join(str(draw.randrange(10**6)) for _ in range(60)) for _ in range(10_000))
    source.write_text("".join(json.dumps({"text": f"number {each}"}) + "\n" for each in text))
    words = command(str(source), "--to", str(to), "--set", "min_letters=0")
    process = subprocess.Popen(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    while not (to.parent / f".{to.name}.building" / "output" / "tmp" / "rows.db").exists() and process.poll() is None:
        time.sleep(0.01)
    return process


def test_ctrl_c_ends_a_build_and_leaves_nothing(env: dict[str, str], tmp_path: Path) -> None:
    process = begin(env, tmp_path / "big.jsonl", tmp_path / "out.jsonl")
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told and not [path for path in tmp_path.iterdir() if "out.jsonl" in path.name]


def test_what_a_killed_build_has_left_goes_with_the_next_one(env: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    process = begin(env, tmp_path / "big.jsonl", target)
    process.kill()
    process.communicate(timeout=60)
    assert (tmp_path / ".out.jsonl.building").is_dir()
    (tmp_path / "one.jsonl").write_text(json.dumps(FIRST) + "\n")
    build(env, str(tmp_path / "one.jsonl"), "--to", str(target))
    assert lines(target) == [FIRST] and not list(tmp_path.glob(".out*"))


def test_a_second_build_of_a_file_waits_for_the_first(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps(FIRST) + "\n")
    words = command(str(tmp_path / "one.jsonl"), "--to", str(tmp_path / "out.jsonl"))
    with hold_lock(tmp_path / ".out.jsonl.building.lock"):
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None and "another build" in process.stdout.readline()
    process.communicate(timeout=60)
    assert process.returncode == 0 and lines(tmp_path / "out.jsonl") == [FIRST]
