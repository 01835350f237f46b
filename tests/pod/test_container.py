"""A container without SSH: what it fetches is what was announced, or it runs nothing and says why; no training begins twice."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shlex
import subprocess
import sys
import tarfile
import threading
import urllib.error
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from trainyard.pod import entry
from trainyard.pod.boot import container_command
from trainyard.pod.container import FAILED, Worker
from trainyard.pod.live import Board, GrowingFile, open_wire
from trainyard.pod.signed import mac_of

SECRET = "5" * 64


class Shelf:
    """A store that keeps what it is given, without a look at any signature; ``refuses``: paths, with the status that they get."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refuses: dict[str, int] = {}
        shelf = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int, body: bytes = b"", tag: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if tag:
                    self.send_header("ETag", tag)
                self.end_headers()
                self.wfile.write(body)

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path in shelf.refuses:
                    return self.answer(shelf.refuses[self.path])
                shelf.objects[self.path] = body
                return self.answer(200, tag=hashlib.md5(body).hexdigest())

            def do_GET(self) -> None:
                body = shelf.objects.get(self.path)
                if self.path in shelf.refuses or body is None:
                    return self.answer(shelf.refuses.get(self.path, 404), b"<Error><Code>NoSuchKey</Code></Error>")
                tag = hashlib.md5(body).hexdigest()
                return self.answer(304) if self.headers.get("If-None-Match") == tag else self.answer(200, body, tag)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, path: str) -> str:
        """Return the URL of an object."""
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def said(self, path: str) -> dict[str, Any]:
        """Return an object that carries a proof, which is looked at."""
        value: dict[str, Any] = json.loads(self.objects[path])
        assert value.pop("mac") == mac_of(SECRET, value)
        return value


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    yield made
    made.server.shutdown()
    made.server.server_close()


def bundle_of(order: dict[str, Any]) -> bytes:
    """Return a bundle with an order and nothing else."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, body in {"hidden.json": b"[]", "order.json": json.dumps(order).encode()}.items():
            item = tarfile.TarInfo(name)
            item.size = len(body)
            tar.addfile(item, io.BytesIO(body))
    return packed.getvalue()


def order_on(shelf: Shelf, workspace: Path) -> dict[str, Any]:
    """Return an order whose URLs are those of a shelf."""
    links = {
        "log": [shelf.url("/log.0")], "metrics": [shelf.url("/metrics.0")], "part": 1 << 18,
        "status": {"put": shelf.url("/status"), "get": shelf.url("/status")}, "orders": shelf.url("/orders"),
    }  # fmt: skip
    plan = {"urls": {"marker": {"get": shelf.url("/marker")}}}
    files = {"log": ["job", "log"], "metrics": ["output", "metrics.jsonl"]}
    return {"links": links, "plan": plan, "files": files, "until": 9e9, "reports": [], "steps": [], "job": {}, "needs": {}}


def worker(shelf: Shelf, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Return what works in a container, before its first step."""
    monkeypatch.setenv("WORKSPACE", str(workspace))
    monkeypatch.setattr("trainyard.pod.container.signal.signal", lambda *_: None)
    return Worker({"secret": SECRET, "job": {}}, {}, bundle_of(order_on(shelf, workspace)))


def signed(said: dict[str, Any]) -> bytes:
    return json.dumps({**said, "mac": mac_of(SECRET, said)}).encode()


def refused(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("u", code, "no", Message(), None)


def test_the_command_is_short_runs_on_any_shell_and_survives_being_one_string() -> None:
    command = container_command("a" * 64)

    assert len(shlex.join(command)) < 4096
    assert command[:2] == ("sh", "-c") and "'" not in command[2] and command[2].count('"') == 2
    done = subprocess.run(command, env={"PATH": "/nowhere"}, capture_output=True, text=True, executable="/bin/sh", check=False)
    assert done.returncode == 127 and "no python3" in done.stderr


def test_a_bundle_that_is_not_the_announced_one_runs_nothing_and_the_status_says_so(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.objects["/bundle"] = bundle_of({})
    told = {"bundle": shelf.url("/bundle"), "status": shelf.url("/status"), "secret": SECRET, "job": {}}
    monkeypatch.setenv("TRAINYARD_SECRETS", json.dumps(told))
    monkeypatch.setenv("WORKSPACE", str(tmp_path / "w"))
    monkeypatch.setattr(sys, "argv", ["-c", "0" * 64])
    monkeypatch.setattr("trainyard.pod.entry.time.sleep", lambda _: None)
    monkeypatch.setattr("trainyard.pod.entry.os.execve", lambda *_: pytest.fail("it ran something"))

    with pytest.raises(SystemExit) as left:
        entry.main()

    assert left.value.code == FAILED and "nothing was started" in capsys.readouterr().err
    said = shelf.said("/status")
    actual = hashlib.sha256(shelf.objects["/bundle"]).hexdigest()
    assert said["phase"] == "failed" and said["why"] == f"the bundle is not the one of the create request: its sha256 is {actual}"
    assert list((tmp_path / "w").iterdir()) == []


def test_a_url_that_is_over_is_told_as_such_and_a_bucket_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | bytes] = [refused(403)] * 5
    waits: list[float] = []
    monkeypatch.setattr("trainyard.pod.entry.time.sleep", waits.append)

    def opened(*_: Any, **__: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr("trainyard.pod.entry.urllib.request.urlopen", opened)
    with pytest.raises(OSError, match=r"HTTP 403 \(is its URL over\?\)"):
        entry.fetch("u", "0" * 64)
    assert len(waits) <= 3

    answers[:] = [OSError("no route"), refused(503), OSError("reset"), OSError("reset"), OSError("reset"), b"it"]
    assert entry.fetch("u", hashlib.sha256(b"it").hexdigest()) == b"it"


def test_a_container_that_was_started_anew_trains_nothing_twice(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.objects["/status"] = signed({"version": 1, "phase": "training", "container": "another"})

    assert worker(shelf, tmp_path, monkeypatch).run() == FAILED

    said = shelf.said("/status")
    assert said["phase"] == "lost" and "gone with the old one" in said["why"]


def test_a_container_whose_run_is_committed_ends_at_once_with_the_job_s_exit_code(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.objects["/marker"] = signed({"version": 1, "exit_code": 3})
    assert worker(shelf, tmp_path, monkeypatch).run() == 3
    assert shelf.said("/status")["phase"] == "committed" and shelf.said("/status")["job"].startswith("exited")

    shelf.objects["/marker"] = json.dumps({"version": 1, "exit_code": 0, "mac": "0" * 64}).encode()
    shelf.objects["/status"] = signed({"version": 1, "phase": "training", "container": "another"})
    assert worker(shelf, tmp_path, monkeypatch).run() == FAILED, "a marker of somebody else ends nothing"


def test_a_growing_file_is_sent_in_parts_once_each_and_no_further_than_their_urls(shelf: Shelf, tmp_path: Path) -> None:
    log, wire = tmp_path / "log", open_wire()
    file = GrowingFile(str(log), [shelf.url(f"/log.{number}") for number in range(2)], 10)
    assert not file.is_behind() and file.send(wire)

    log.write_bytes(b"0123456")
    assert file.send(wire) and shelf.objects["/log.0"] == b"0123456"
    shelf.refuses["/log.1"] = 503
    log.write_bytes(b"0123456789abc")
    assert not file.send(wire) and shelf.objects["/log.0"] == b"0123456789" and file.sent == 10
    del shelf.refuses["/log.1"]
    log.write_bytes(b"0123456789abcdefghijklmnop")
    assert file.send(wire) and shelf.objects["/log.1"] == b"abcdefghij" and not file.is_behind() and file.room == 20
    wire.close()


def test_orders_are_heard_once_and_only_of_who_knows_the_secret(shelf: Shelf, tmp_path: Path) -> None:
    wire = open_wire()
    board = Board(wire, order_on(shelf, tmp_path)["links"], SECRET, "me")
    assert board.orders() == {}
    shelf.objects["/orders"] = signed({"number": 1, "stop": {"grace": 5.0, "why": "cancelled"}})
    assert board.orders()["stop"]["grace"] == 5.0
    assert board.orders() == {}

    forged = {"number": 2, "stop": {"grace": 0.0, "why": "x"}}
    shelf.objects["/orders"] = json.dumps({**forged, "mac": mac_of("6" * 64, forged)}).encode()
    assert board.orders() == {}
    shelf.objects["/orders"] = signed({"number": 1, "stop": {"grace": 0.0, "why": "old"}})
    assert board.orders() == {}
    wire.close()
