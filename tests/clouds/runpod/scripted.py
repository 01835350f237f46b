"""A real HTTP server on loopback that answers as scripted, and notes what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Say:
    """One scripted answer."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    reset: bool = False
    silent: float = 0.0
    drips: str = ""
    """What never ends: 'headers' or 'body', a byte at a time."""


class Scripted:
    """Answers in order; the last one is repeated."""

    def __init__(self, *answers: Say) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                say = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if say.silent:
                    outer.released.wait(say.silent)
                if say.reset or say.silent:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    return
                if say.drips:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if say.drips == "body" else b"X: "))
                    with contextlib.suppress(OSError):
                        while not outer.released.wait(0.005):
                            self.wfile.write(b" ")
                    self.close_connection = True
                    return
                text = say.raw if say.raw is not None else json.dumps(say.body).encode()
                self.send_response_only(say.status)
                for name, value in {"Content-Length": str(len(text)), **say.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = do_PUT = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v2"

    def close(self) -> None:
        """Stop answering."""
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


class TurnedPace:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def refused_address() -> str:
    """Return an address at which nobody listens."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v2"
