"""How the fetcher writes: disks that are full, servers that redirect or know no ranges, an old Python; and what it holds in memory."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainyard.pod import fetcher, ranges
from trainyard.pod.orders import JsonLines
from trainyard.pod.podprogram import pod_program
from trainyard.remote.protocol import quote

MIB = 1 << 20


@dataclass
class Web:
    """A server of files, each by its path; ``moves`` are paths that lead elsewhere, ``plain`` leaves ranges out."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    moves: dict[str, str] = field(default_factory=dict)
    plain: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[Web]:
    state = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.asked.append((self.path, self.headers.get("Range", "")))
            if self.path in state.moves:
                self.answer(302, b"over there", {"Location": state.moves[self.path]})
            elif self.path not in state.files:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
            elif state.plain:
                self.answer(200, state.files[self.path], {})
            else:
                first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                body = state.files[self.path]
                self.answer(206, body[int(first) : int(last) + 1], {"Content-Range": f"bytes {first}-{last}/{len(body)}"})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that goes away is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def order(web: Web, folder: Path, files: dict[str, bytes], *, extent: int = MIB, **more: Any) -> dict[str, Any]:
    """Return an order for files that lie at the server under their names."""
    folder.mkdir(exist_ok=True)
    web.files |= {f"/{name}": body for name, body in files.items()}
    entries = [
        {
            "path": name, "size": len(body), "sha256": hashlib.sha256(body).hexdigest(),
            "extents": [[number, at, min(extent, len(body) - at), ""] for at in range(0, len(body), extent)],
        } for number, (name, body) in enumerate(files.items())
    ]  # fmt: skip
    return {"folder": str(folder), "sources": [{"url": f"{web.url}/{name}"} for name in files], "files": entries, "tries": 2, **more}


def carry_out(asked: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    output = io.StringIO()
    failed = fetcher.Fetcher(asked, JsonLines(output), lambda _: None).run()
    return failed, [json.loads(line) for line in output.getvalue().splitlines()]


def failures(events: list[dict[str, Any]]) -> dict[str, str]:
    return {event["code"]: event["message"] for event in events if event["event"] == "failed"}


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:3], 100, 1000 * 1000 // real.f_frsize, *real[5:])))
    failed, events = carry_out(order(web, tmp_path / "in", {"a": b"a" * 2 * MIB, "b": b"b"}))
    assert failed == 2 and web.asked == []
    assert failures(events)["NoSpace"].startswith(f"2097153 bytes are to be fetched into {tmp_path}/in, 99")


def test_a_disk_that_fills_up_meanwhile_ends_it_and_what_has_arrived_is_kept(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = os.urandom(6 * MIB)
    asked = order(web, tmp_path / "in", {"a": body, "b": b"b"}, threads=1)
    write, monkey = os.pwrite, {"room": 4 * MIB}

    def filling(handle: int, data: memoryview, offset: int) -> int:
        monkey["room"] -= len(data)
        if monkey["room"] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data, offset)

    monkeypatch.setattr(fetcher, "SPAN", MIB)
    monkeypatch.setattr(os, "pwrite", filling)
    failed, events = carry_out(asked)
    assert failed == 2 and failures(events) == {"NoSpace": "not tried any more"} | failures(events) and len(web.asked) == 5
    monkey["room"] = 100 * MIB
    web.asked.clear()
    assert carry_out(asked)[0] == 0 and (tmp_path / "in/a").read_bytes() == body
    assert len(web.asked) == 3, "two parts of one file, and the other file"


def test_it_follows_where_it_is_led_and_takes_an_answer_without_ranges(web: Web, tmp_path: Path) -> None:
    body = os.urandom(3 * MIB)
    asked = order(web, tmp_path / "in", {"a": body})
    web.files["/there"], web.moves["/a"] = body, "/there"
    assert carry_out(asked)[0] == 0 and (tmp_path / "in/a").read_bytes() == body
    web.moves["/a"] = "/a"
    (tmp_path / "in/a").unlink()
    assert failures(carry_out(order(web, tmp_path / "in", {"a": body}))[1]) == {"302": "the store answered 302 302"}
    web.moves.clear()
    web.plain = True
    assert carry_out(order(web, tmp_path / "in", {"a": body}))[0] == 0 and (tmp_path / "in/a").read_bytes() == body


@pytest.mark.parametrize(("old", "new"), [("https://a/b", "http://a/b"), ("https://a/b", "file:///etc/passwd")])
def test_from_https_it_is_led_to_https_only(old: str, new: str) -> None:
    with pytest.raises(ranges.StoreAnswer, match="away from https"):
        ranges.absolute(old, new)


def test_what_lies_side_by_side_comes_with_one_request_and_what_nobody_wants_is_read_over(web: Web, tmp_path: Path) -> None:
    pack = bytes(range(256)) * 4096
    web.files["/pack"] = pack
    (tmp_path / "in").mkdir()
    parts = [(0, 10), (10, 0), (100, 5), (100, 5), (300_000, 3), (900_000, 9)]
    hashes = [hashlib.sha256(pack[at : at + size]).hexdigest() for at, size in parts]
    files = [
        {"path": f"f{n}", "size": size, "sha256": hashes[n], "extents": [[0, at, size, ""]] if size else []}
        for n, (at, size) in enumerate(parts)
    ]  # fmt: skip
    asked = {"folder": str(tmp_path / "in"), "sources": [{"url": f"{web.url}/pack"}], "files": files, "threads": 1}
    assert carry_out(asked)[0] == 0
    assert [(tmp_path / f"in/f{n}").read_bytes() for n in range(6)] == [pack[at : at + size] for at, size in parts]
    assert [ranges for _, ranges in web.asked] == ["bytes=0-104", "bytes=100-104", "bytes=300000-300002", "bytes=900000-900008"]


def python(version: str) -> str:
    found = [shutil.which(f"python{version}"), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    found = [p for p in found if p and not subprocess.run([p, "-c", ""], capture_output=True, check=False).returncode]
    return found[0] if found and found[0] else pytest.skip(f"no Python {version} here")


@pytest.mark.parametrize("version", ["3.8"])
def test_it_runs_as_it_is_sent_on_an_old_python_and_holds_little_in_memory(version: str, web: Web, tmp_path: Path) -> None:
    body = os.urandom(MIB) * 24
    files = {"big": body, **{f"small/{n}": b"%d" % n for n in range(50)}}
    asked = order(web, tmp_path / "in", files, extent=8 * MIB)
    tell = f"import atexit; atexit.register(lambda: open({str(tmp_path / 'status')!r}, 'w').write(open('/proc/self/status').read()))"
    program = pod_program("fetch")
    command = (
        program.command().replace("python3 -I", f"{python(version)} -I", 1).replace("import sys", f"{quote(tell)[1:-1]}\nimport sys", 1)
    )
    with subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(program.source + json.dumps(asked).encode())
        assert process.returncode == 0
    assert json.loads(output.splitlines()[-1]) == {
        "event": "done", "done": sum(map(len, files.values())), "total": sum(map(len, files.values())),
        "moved": sum(map(len, files.values())), "failed": 0,
    }  # fmt: skip
    assert (tmp_path / "in/big").read_bytes() == body and (tmp_path / "in/small/7").read_bytes() == b"7"
    peak = next(line for line in (tmp_path / "status").read_text().splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 64 * 1024
