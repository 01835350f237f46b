"""The uploader as it runs on a pod: scan tells the truth about files, send carries out bound requests."""

from __future__ import annotations

import base64
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
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainyard.pod import uploader

PROGRAM = Path(uploader.__file__)


def crc(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def scan(root: Path, outputs: list[str], excludes: list[str] | None = None, **more: Any) -> dict[str, Any]:
    spec = {"root": str(root), "outputs": outputs, "excludes": excludes or [], "extra": [], "part_size": 64, "md5": False}
    return uploader.scan({**spec, **more})


def write(root: Path, path: str, body: bytes = b"x") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(body)


# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "anywhere", "yes", "no"),
    [
        ("model/**", False, ["model/a", "model/b/c"], ["a", "models/a", "x/model/a"]),
        ("model", False, ["model", "model/a"], ["model2", "x/model"]),
        ("model/", False, ["model/a/b"], ["models"]),
        ("model/*", False, ["model/a", "model/a/b"], ["model"]),
        ("*.json", False, ["a.json"], ["x/a.json", "a.jsonl"]),
        ("**/*.json", False, ["a.json", "x/y/a.json"], ["a.js"]),
        ("a?c", False, ["abc"], ["a/c", "ac"]),
        ("part[0-9].bin", False, ["part7.bin"], ["partx.bin"]),
        ("part[!0-9].bin", False, ["partx.bin"], ["part7.bin", "part/.bin"]),
        ("a.b", False, ["a.b"], ["axb"]),
        ("[", False, ["["], ["a"]),
        ("checkpoint-*", True, ["checkpoint-10/optimizer.pt", "model/checkpoint-1/x"], ["model/my-checkpoint-1"]),
        ("*.pt", True, ["a.pt", "model/x/a.pt"], ["a.pth", "a.pt.txt"]),
        ("checkpoints/*", True, ["checkpoints/a/b"], ["x/checkpoints/a"]),
        ("/logs", True, ["x/logs", "logs/a"], ["logs2"]),
    ],
)
def test_a_pattern_takes_what_it_says_and_no_more(pattern: str, anywhere: bool, yes: list[str], no: list[str]) -> None:
    compiled = uploader.compile_pattern(pattern, anywhere)
    assert [path for path in yes if not compiled.match(path)] == []
    assert [path for path in no if compiled.match(path)] == []


# ---- scan


def test_a_scan_gives_the_hashes_of_the_whole_and_of_each_part(tmp_path: Path) -> None:
    body = os.urandom(150)
    write(tmp_path, "model/a", body)
    [found] = scan(tmp_path, ["model"])["files"]
    assert found == {
        "path": "model/a", "size": 150, "sha256": hashlib.sha256(body).hexdigest(), "crc32": crc(body),
        "parts": [crc(body[:64]), crc(body[64:128]), crc(body[128:])], "part_size": 64,
    }  # fmt: skip
    [with_md5] = scan(tmp_path, ["model"], md5=True)["files"]
    assert with_md5["md5"] == [hashlib.md5(part).hexdigest() for part in (body[:64], body[64:128], body[128:])]


def test_an_empty_file_has_one_empty_part(tmp_path: Path) -> None:
    write(tmp_path, "a", b"")
    [found] = scan(tmp_path, ["a"])["files"]
    assert (found["size"], found["parts"]) == (0, [crc(b"")])


def test_a_file_of_whole_parts_has_no_empty_one_at_its_end(tmp_path: Path) -> None:
    write(tmp_path, "a", b"x" * 128)
    [found] = scan(tmp_path, ["a"])["files"]
    assert len(found["parts"]) == 2


def test_no_file_has_more_than_ten_thousand_parts() -> None:
    assert uploader.part_size_for(10000 * 64, 64) == 64
    assert uploader.part_size_for(10000 * 64 + 1, 64) == 128
    assert uploader.part_size_for(1 << 50, 1 << 25) * 10000 >= 1 << 50


def test_excludes_win_over_outputs_and_all_that_is_left_out_is_told_with_size_and_reason(tmp_path: Path) -> None:
    write(tmp_path, "model/a")
    write(tmp_path, "model/optimizer.pt", b"12345")
    write(tmp_path, "other", b"123")
    os.mkfifo(tmp_path / "model/pipe")
    report = scan(tmp_path, ["model"], ["*.pt"])
    assert [entry["path"] for entry in report["files"]] == ["model/a"]
    assert sorted((e["path"], e["size"], e["why"]) for e in report["left_out"]) == [
        ("model/optimizer.pt", 5, "excluded"), ("model/pipe", 0, "not a file"), ("other", 3, "no output pattern"),
    ]  # fmt: skip


def test_links_are_never_followed_and_told_where_they_are_wanted(tmp_path: Path) -> None:
    write(tmp_path, "secret/key")
    write(tmp_path, "out/model/a")
    os.symlink("../../secret/key", tmp_path / "out/model/link")
    os.symlink("../../secret", tmp_path / "out/model/folder")
    os.symlink("model", tmp_path / "out/latest")
    report = scan(tmp_path / "out", ["model"])
    assert [entry["path"] for entry in report["files"]] == ["model/a"]
    assert sorted(report["links"]) == ["model/folder", "model/link"]
    assert [entry["path"] for entry in report["left_out"]] == ["latest"]


@pytest.mark.parametrize("name", [b"tab\there", b"\xff\xfe"], ids=["control", "not utf-8"])
def test_names_that_no_key_can_have_are_refused(name: bytes, tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"x")
    report = scan(tmp_path, ["**"])
    assert report["bad_names"] == [os.fsdecode(name)] and report["files"] == []


def test_a_file_written_to_while_it_is_read_is_told_as_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a", b"x" * 100)
    write(tmp_path, "b")
    whole = uploader.read_blocks

    def writing(file: Any, length: int) -> Iterator[bytes]:
        if length > 1:
            with (tmp_path / "a").open("ab") as again:
                again.write(b"more")
        return whole(file, length)

    monkeypatch.setattr(uploader, "read_blocks", writing)
    report = scan(tmp_path, ["**"])
    assert [entry["path"] for entry in report["changed"]] == ["a"]
    assert [entry["path"] for entry in report["files"]] == ["b"]


@pytest.mark.parametrize("change", ["rewrite", "replace", "remove", "appear", "shrink"])
def test_a_change_after_a_file_was_hashed_is_found_at_the_end(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a", b"old!")
    write(tmp_path, "z", b"last")
    whole = uploader.hash_file

    def changing(path: str, *more: Any, **options: Any) -> Any:
        result = whole(path, *more, **options)
        if path.endswith("/z"):
            if change == "rewrite":
                (tmp_path / "a").write_bytes(b"new!")
            elif change == "replace":
                (tmp_path / "a.new").write_bytes(b"new!")
                os.replace(tmp_path / "a.new", tmp_path / "a")
            elif change == "remove":
                (tmp_path / "a").unlink()
            elif change == "shrink":
                os.truncate(tmp_path / "a", 1)
            else:
                write(tmp_path, "b")
        return result

    monkeypatch.setattr(uploader, "hash_file", changing)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    report = scan(tmp_path, ["**"])
    assert [entry["path"] for entry in report["changed"]] == ["b" if change == "appear" else "a"]


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a")
    (tmp_path / "a").chmod(0)

    def refusing(path: str, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(uploader, "hash_file", refusing)
    assert scan(tmp_path, ["**"])["unreadable"] == [{"path": "a", "why": "Permission denied"}]


def test_logs_travel_in_the_scan_up_to_a_size_and_by_their_present_length_above(tmp_path: Path) -> None:
    write(tmp_path, "out/a")
    write(tmp_path, "log", b"line\n")
    write(tmp_path, "long", b"l" * (uploader.INLINE + 1))
    extra = [{"name": n, "path": str(tmp_path / n)} for n in ("log", "long", "absent")]
    short, long = scan(tmp_path / "out", ["**"], extra=extra)["extra"]
    assert base64.b64decode(short["inline"]) == b"line\n" and "sha256" not in short
    assert (long["size"], long["name"], "inline" in long) == (uploader.INLINE + 1, "long", False)


def test_a_missing_output_folder_is_said(tmp_path: Path) -> None:
    assert "there is no folder" in scan(tmp_path / "nothing", ["**"])["error"]


def test_samples_are_hashes_of_ranges(tmp_path: Path) -> None:
    write(tmp_path, "a", b"0123456789")
    spec = {"ranges": [{"path": str(tmp_path / "a"), "offset": 2, "length": 3}]}
    assert uploader.sample(spec)["sha256"] == [hashlib.sha256(b"234").hexdigest()]


def test_a_name_longer_than_255_bytes_is_no_key() -> None:
    assert uploader.bad_name("ok/" + "ü" * 128) and not uploader.bad_name("ok/" + "ü" * 127)


# ---- send


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
    sender = uploader.Sender({"threads": 1, **plan}, uploader.Output(out), pause=waited.append)
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


def test_it_ends_by_itself_when_nobody_reads_its_output(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 1000)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/b/k"
        plan = {"items": [{"id": 1, "url": url, "headers": {}, "path": str(big), "offset": 0, "length": 1000}]}
        started = subprocess.Popen([sys.executable, PROGRAM, "send"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert started.stdin and started.stdout
        started.stdin.write(json.dumps(plan).encode())
        started.stdin.close()
        started.stdout.close()
        assert started.wait(20) == 3


def test_usage_is_shown_for_anything_but_the_three_verbs() -> None:
    done = subprocess.run([sys.executable, PROGRAM, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "uploader.py scan" in done.stderr


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_it_runs_on_the_pythons_that_pods_have(version: str, tmp_path: Path, store: Store, file: Path) -> None:
    found = [shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    python = next((p for p in found if p and not subprocess.run([p, "-c", ""], capture_output=True, check=False).returncode), None)
    if python is None:
        pytest.skip(f"no Python {version} here")

    def run(verb: str, order: dict[str, Any]) -> str:
        command = [python, "-I", "-W", "error", str(PROGRAM), verb]
        return subprocess.run(command, input=json.dumps(order), capture_output=True, text=True, check=True).stdout

    spec = {"root": str(tmp_path), "outputs": ["**"], "excludes": [], "extra": [], "part_size": 4, "md5": True}
    assert json.loads(run("scan", spec))["files"][0]["size"] == 10
    assert '"stored"' in run("send", {"items": [item(store, file)]})
