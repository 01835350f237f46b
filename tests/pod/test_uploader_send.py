"""How the uploader sends: bound requests, retries, refusals; and the program itself on each Python."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainyard.pod import uploader
from trainyard.pod.files import hash_file
from trainyard.pod.orders import JsonLines
from trainyard.pod.podprogram import Verb, pod_program


@dataclass
class Store:
    """A server that takes PUTs; ``answers`` are (status, body) for the next requests, then 200."""

    url: str = ""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def store() -> Iterator[Store]:
    state = Store()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with state.lock:
                state.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, text = state.answers.pop(0) if state.answers else (200, b"")
            if status == 0:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None: ...

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield state
        server.shutdown()


def send(plan: dict[str, Any]) -> tuple[int, list[dict[str, Any]], list[float]]:
    out = io.StringIO()
    waited: list[float] = []
    sender = uploader.Sender({"threads": 1, **plan}, JsonLines(out), pause=waited.append)
    failed = sender.run()
    return failed, [json.loads(line) for line in out.getvalue().splitlines()], waited


def item(store: Store, file: Path, **more: Any) -> dict[str, Any]:
    return {"id": 7, "url": store.url + "/b/k?sig=1", "headers": {"x-amz-checksum-crc32": "abc="}, "path": str(file),
            "offset": 0, "length": file.stat().st_size, "exists_ok": False, **more}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


def test_an_item_is_one_put_with_exactly_the_signed_headers(store: Store, file: Path) -> None:
    failed, events, _ = send({"items": [item(store, file, offset=2, length=5)]})
    assert failed == 0 and events[-1] == {"event": "done", "sent": 5, "total": 5, "failed": 0}
    [(target, headers, body)] = store.got
    assert (target, body) == ("/b/k?sig=1", b"23456")
    assert sorted(headers) == ["content-length", "host", "x-amz-checksum-crc32"]


@pytest.mark.parametrize("answer", [(500, b""), (503, b"<Code>SlowDown</Code>"), (429, b""), (0, b""), (400, b"<Code>BadDigest</Code>")])
def test_what_may_pass_is_tried_again_with_growing_pauses(answer: tuple[int, bytes], store: Store, file: Path) -> None:
    store.answers = [answer, answer]
    failed, events, waited = send({"items": [item(store, file)]})
    assert failed == 0 and {"event": "stored", "id": 7, "status": 200} in events
    assert len(store.got) == 3 and len(waited) == 2 and waited[0] < 2 * waited[1]
    assert events[-1]["sent"] == 10, "a failed try is not counted as sent"


def to_hash(file: Path) -> dict[str, Any]:
    hashes, _ = hash_file(str(file), 4, False, sha256=False)
    return {"path": str(file), **{name: hashes[name] for name in ("size", "part_size", "parts")}}


def test_files_are_hashed_while_their_parts_go_out(store: Store, file: Path, tmp_path: Path) -> None:
    there = tmp_path / "is in the bucket already"
    there.write_bytes(b"there")
    failed, events, _ = send({"items": in_parts(store, file), "hash": [to_hash(file), to_hash(there)], "threads": 2})
    told = {event["path"]: event["sha256"] for event in events if event["event"] == "hashed"}
    assert failed == 0 and told == {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, there)}


def in_parts(store: Store, file: Path) -> list[dict[str, Any]]:
    return [item(store, file, id=n, offset=offset, length=min(4, 10 - offset)) for n, offset in enumerate((0, 4, 8))]


def test_what_is_sent_in_the_order_of_its_file_is_hashed_from_the_same_memory(
    store: Store, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"9876543210")
    plan = [one for pair in zip(in_parts(store, file), in_parts(store, other), strict=True) for one in pair]
    order = {"items": plan, "hash": [to_hash(file), to_hash(other)]}
    monkeypatch.setattr(uploader, "read_span", None)  # what reads a file a second time
    store.answers = [(200, b""), (500, b""), (0, b"")]  # a try that fails leaves nothing in the hash
    failed, events, _ = send(order)
    told = {event["path"]: event["sha256"] for event in events if event["event"] == "hashed"}
    assert failed == 0 and told == {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, other)}
    assert [body for _, _, body in store.got] == [b"0123", b"4567", b"4567", b"4567", b"89", b"9876", b"5432", b"10"]


@pytest.mark.parametrize("answer", [(400, b"<Code>BadDigest</Code>"), (412, b"")])
def test_bytes_that_no_store_has_proven_are_hashed_only_as_they_were_scanned(answer: tuple[int, bytes], store: Store, file: Path) -> None:
    entry = to_hash(file)
    file.write_bytes(b"X123456789")
    store.answers = [answer] * 2
    _, events, _ = send({"items": [item(store, file, exists_ok=True)], "hash": [entry], "tries": 2})
    assert [event["code"] for event in events if event["event"] == "unhashed"] == ["Changed"]


@pytest.mark.parametrize("change", ["rewritten", "longer", "shorter", "gone"])
def test_a_hash_is_told_only_of_the_bytes_that_were_scanned(change: str, store: Store, file: Path) -> None:
    entry = to_hash(file)
    if change == "gone":
        file.unlink()
    else:
        file.write_bytes({"rewritten": b"012345678X", "longer": b"0123456789+", "shorter": b"012345678"}[change])
    failed, events, _ = send({"items": [], "hash": [entry]})
    [told] = [event for event in events if event["event"] == "unhashed"]
    assert failed == 1 and (told["path"], told["code"]) == (str(file), "Changed")


def test_a_store_that_is_never_reached_leaves_no_file_waiting_for_its_hash(file: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    parts = [item(Store(url), file, id=n, offset=n, length=1) for n in range(10)]
    failed, events, _ = send({"items": parts, "hash": [to_hash(file)], "tries": 1})
    assert failed == 10 and [event["event"] for event in events].count("hashed") == 1


def test_an_error_inside_a_200_is_an_error(store: Store, file: Path) -> None:
    store.answers = [(200, b"<Error><Code>InternalError</Code></Error>")]
    assert send({"items": [item(store, file)]})[0] == 0
    assert len(store.got) == 2


REFUSALS = [(403, "AccessDenied"), (404, "NoSuchUpload"), (400, "InvalidRequest"), (412, "PreconditionFailed")]


@pytest.mark.parametrize(("status", "code"), REFUSALS)
def test_a_definite_refusal_is_told_at_once_with_the_stores_words(status: int, code: str, store: Store, file: Path) -> None:
    store.answers = [(status, f"<Error><Code>{code}</Code><Message>why</Message></Error>".encode())]
    failed, events, waited = send({"items": [item(store, file)]})
    assert failed == 1 and len(store.got) == 1 and waited == []
    [told] = [event for event in events if event["event"] == "failed"]
    assert (told["id"], told["status"], told["code"]) == (7, status, code) and "why" in told["message"]


def test_an_object_that_is_there_already_is_fine_where_the_plan_says_so(store: Store, file: Path) -> None:
    store.answers = [(412, b"")]
    failed, events, _ = send({"items": [item(store, file, exists_ok=True)]})
    assert failed == 0 and {"event": "stored", "id": 7, "status": 412} in events


def test_it_gives_up_after_the_tries_of_the_plan(store: Store, file: Path) -> None:
    store.answers = [(500, b"")] * 9
    assert send({"items": [item(store, file)], "tries": 4})[0] == 1
    assert len(store.got) == 4


def test_a_store_that_is_never_reached_ends_the_whole_plan_soon(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/b/k"
    items = [{"id": n, "url": url, "headers": {}, "path": str(file), "offset": 0, "length": 10} for n in range(50)]
    failed, events, waited = send({"items": items, "tries": 3})
    assert failed == 50 and len(waited) == 2
    assert {event["code"] for event in events if event["event"] == "failed"} == {"Network"}


def test_a_store_that_was_reached_once_is_tried_for_every_item(store: Store, file: Path) -> None:
    store.answers = [(500, b"")] + [(0, b"")] * 3
    failed, _, _ = send({"items": [item(store, file, id=1), item(store, file, id=2)], "tries": 4})
    assert failed == 1 and store.got[-1][2] == b"0123456789"


def test_a_file_that_is_shorter_than_planned_is_told_as_changed(store: Store, file: Path) -> None:
    plan = {"items": [item(store, file)]}
    os.truncate(file, 4)
    _, events, _ = send(plan)
    assert next(event for event in events if event["event"] == "failed")["code"] == "Changed"


def test_a_refusal_in_the_middle_of_the_body_is_read_not_taken_for_a_broken_link(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * (32 << 20))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(65536)
                link.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 26\r\nConnection: close\r\n\r\n<Code>AccessDenied</Code>!!")
                link.shutdown(socket.SHUT_WR)
                while link.recv(1 << 20) and not done.is_set():
                    pass

        done = threading.Event()
        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/b/k"
        one = {"id": 1, "url": url, "headers": {}, "path": str(big), "offset": 0, "length": 32 << 20}
        _, events, waited = send({"items": [one]})
        done.set()
        thread.join()
    [told] = [event for event in events if event["event"] == "failed"]
    assert (told["status"], told["code"], waited) == (403, "AccessDenied", [])


def test_many_items_go_over_several_threads_and_every_outcome_is_told(store: Store, tmp_path: Path) -> None:
    items = []
    for number in range(20):
        path = tmp_path / f"f{number}"
        path.write_bytes(os.urandom(1000))
        items.append(item(store, path, id=number, url=f"{store.url}/b/{number}"))
    failed, events, _ = send({"items": items, "threads": 4})
    assert failed == 0 and sorted(event["id"] for event in events if event["event"] == "stored") == list(range(20))
    assert {path: body for path, _, body in store.got} == {f"/b/{n}": (tmp_path / f"f{n}").read_bytes() for n in range(20)}


def test_a_proxy_is_used_for_others_but_never_for_this_machine(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", store.url)
    monkeypatch.delenv("no_proxy", raising=False)
    plan = item(store, file, url="http://bucket.example.org/b/k?sig=2")
    assert send({"items": [plan]})[0] == 0
    assert store.got[0][0] == "http://bucket.example.org/b/k?sig=2"
    assert store.got[0][1]["host"] == "bucket.example.org"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert send({"items": [item(store, file)], "tries": 1})[0] == 0


# ---- the program


def start(python: str, verb: Verb, order: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a program as it is sent to a pod, on a Python of this machine."""
    command = pod_program(verb).command(verb, options="-I -X utf8 -W error").replace("exec python3", f"exec {python}", 1)
    started = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdin
    started.stdin.write(pod_program(verb).source + json.dumps(order).encode())
    started.stdin.close()
    return started


def test_it_ends_by_itself_when_nobody_reads_its_output(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 1000)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/b/k"
        plan = {"items": [{"id": 1, "url": url, "headers": {}, "path": str(big), "offset": 0, "length": 1000}]}
        started = start(sys.executable, "send", plan)
        assert started.stdout
        started.stdout.close()
        assert started.wait(20) == 3


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_it_runs_as_it_is_sent_on_the_pythons_that_pods_have(version: str, tmp_path: Path, store: Store, file: Path) -> None:
    found = [shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    python = next((p for p in found if p and not subprocess.run([p, "-c", ""], capture_output=True, check=False).returncode), None)
    if python is None:
        pytest.skip(f"no Python {version} here")

    def run(verb: Verb, order: dict[str, Any]) -> bytes:
        with start(python, verb, order) as started:
            assert started.stdout
            said = started.stdout.read()
        assert started.returncode == 0
        return said

    spec = {"root": str(tmp_path), "outputs": ["**"], "excludes": [], "extra": [], "part_size": 4, "md5": True}
    assert json.loads(run("scan", spec))["files"][0]["size"] == 10
    assert b'"stored"' in run("send", {"items": [item(store, file)]})
    (tmp_path / "bucket").mkdir()
    copied: dict[str, Any] = {
        "id": 1,
        "path": str(file),
        "dest": f"{tmp_path}/bucket/copy",
        "size": 10,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    copied["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    assert b'"stored"' in run("copy", {"items": [copied], "folder": f"{tmp_path}/bucket"})
