"""The HTTP of the server: who may ask, one answer at a time, whole or as server-sent events. Standard library only."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import wording
from answers import Answer
from wording import Asked, Reply, Wrong

LARGEST = 4 << 20
"""Bytes of a request: a long context is no more."""
PATIENCE = 60.0
"""Seconds in which a request must be here, and in which a client must take what is sent."""
_LONGEST = 600.0
"""Seconds in which an engine behind this server must say something."""
_LAST_WORDS = 5.0
"""Seconds in which an answer that was cut is sent."""


class Engine(Protocol):
    """What answers."""

    def answer(self, asked: Asked, on_text: Callable[[str], None] | None, is_over: Callable[[], bool]) -> Answer:
        """Answer; raises Wrong for what the model does not take."""


@dataclass(frozen=True)
class Upstream:
    """A server of this machine that answers in place of an engine here, many at a time: its port, and the key that it knows."""

    port: int
    key: str


class Turns:
    """A queue of those who wait for the model."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, is_gone: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the turn; yields False where who asked has left meanwhile. Raises Wrong where too many wait."""
        me = object()
        with self._changed:
            if len(self._waiting) > self._most:
                raise Wrong(429, f"{self._most} requests wait already: try again in a moment", code="rate_limit_exceeded")
            self._waiting.append(me)
        try:
            with self._changed:
                while self._waiting[0] is not me and not is_gone():
                    self._changed.wait(1.0)
            yield not is_gone()
        finally:
            with self._changed:
                self._waiting.remove(me)
                self._changed.notify_all()

    def wait_idle(self, seconds: float) -> None:
        """Wait until nobody waits for the model or has it, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, seconds)


class ModelServer(ThreadingHTTPServer):
    """A server of one model on this machine's own address; ``key_sha256`` is of the key that who asks must show."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, port: int, served: str, key_sha256: str, engine: Engine | Upstream, *, tokens: int, waiting: int,
        on_answer: Callable[[Answer | None], None],
    ) -> None:  # fmt: skip
        super().__init__(("127.0.0.1", port), _Handler)
        self.served, self.key_sha256, self.engine, self.tokens = served, key_sha256, engine, tokens
        self.turns, self.on_answer, self.began = Turns(waiting), on_answer, time.time()
        self.refusing, self.ending = threading.Event(), threading.Event()

    def end(self, grace: float) -> None:
        """Take no more requests; what is being answered has so many seconds, then it is given as far as it is."""
        self.refusing.set()
        self.shutdown()
        self.turns.wait_idle(grace)
        self.ending.set()
        self.turns.wait_idle(_LAST_WORDS)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what went wrong with a client that has left; anything else with its traceback."""
        if isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            return
        super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "trainyard", ""
    timeout = PATIENCE
    server: ModelServer

    def do_GET(self) -> None:
        self._served(self._get)

    def do_POST(self) -> None:
        self._served(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: each answer has its line, and no request's text belongs into a log."""

    def _served(self, call: Callable[[str], None]) -> None:
        path = self.path.partition("?")[0].rstrip("/") or "/"
        try:
            call(path)
        except Wrong as wrong:
            self._refuse(wrong)

    def _get(self, path: str) -> None:
        if path in ("/healthz", "/health"):
            ending = self.server.refusing.is_set()
            return self._send(503 if ending else 200, {"status": "ending" if ending else "ok"})
        self._check_key()
        model = {"id": self.server.served, "object": "model", "created": int(self.server.began), "owned_by": "trainyard"}
        if path == "/v1/models":
            return self._send(200, {"object": "list", "data": [model]})
        if path == f"/v1/models/{self.server.served}":
            return self._send(200, model)
        raise Wrong(404, f"there is no {self.path.partition('?')[0]}")

    def _post(self, path: str) -> None:
        self._check_key()
        body = self._body()
        if path not in (wording.CHAT, wording.TEXT):
            raise Wrong(404, f"there is no {self.path.partition('?')[0]}")
        if self.server.refusing.is_set():
            raise Wrong(503, "the server ends")
        if isinstance(self.server.engine, Upstream):
            return self._pass(path, body, self.server.engine)
        asked = wording.read(path, body, self.server.served, self.server.tokens)
        with self.server.turns.turn(self._is_gone) as there:
            if there:
                self._answer(asked, self.server.engine)
        return None

    def _pass(self, path: str, body: bytes, engine: Upstream) -> None:
        """Have the engine answer, each piece as it comes; who hangs up frees it."""
        link = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=_LONGEST)
        with closing(link):
            try:
                link.request("POST", path, body, {"Authorization": f"Bearer {engine.key}", "Content-Type": "application/json"})
                reply = link.getresponse()
            except (OSError, http.client.HTTPException):
                raise Wrong(503, "the engine does not answer") from None
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.headers.get("Content-Type", "application/json"))
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while piece := reply.read1(1 << 16):
                self.chunk(piece)
            self.wfile.write(b"0\r\n\r\n")
        self.server.on_answer(None)

    def _answer(self, asked: Asked, engine: Engine) -> None:
        reply = Reply(asked, self.server.served)
        is_over = self.server.ending.is_set if asked.stream else lambda: self.server.ending.is_set() or self._is_gone()
        if not asked.stream:
            answer = self._told(engine, asked, None, is_over)
            return self._send(200, reply.whole(answer))
        sent = _Events(self, reply)
        try:
            answer = self._told(engine, asked, sent.piece, is_over)
        except Wrong as wrong:
            if not sent.begun:
                raise
            return sent.finish([wrong.body])
        sent.finish(reply.end(answer))
        return None

    def _told(self, engine: Engine, asked: Asked, on_text: Callable[[str], None] | None, is_over: Callable[[], bool]) -> Answer:
        try:
            answer = engine.answer(asked, on_text, is_over)
        except (Wrong, OSError):
            raise
        except Exception as error:  # one request's trouble ends no server
            print(f"serve: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            raise Wrong(500, f"the model failed: {type(error).__name__}") from error
        self.server.on_answer(answer)
        return answer

    def chunk(self, data: bytes) -> None:
        """Send one piece of a body whose length nobody knows yet."""
        self.wfile.write(f"{len(data):X}\r\n".encode() + data + b"\r\n")

    def _check_key(self) -> None:
        kind, _, key = self.headers.get("Authorization", "").partition(" ")
        said = hashlib.sha256(key.strip().encode()).hexdigest()
        if kind.lower() != "bearer" or not hmac.compare_digest(said, self.server.key_sha256):
            raise Wrong(401, "the API key is missing or another: Authorization: Bearer KEY", code="invalid_api_key")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self.close_connection = True
            raise Wrong(411, "the request must say its Content-Length")
        if int(length) > LARGEST:
            self.close_connection = True
            raise Wrong(413, f"the request has {length} bytes; at most {LARGEST} are taken")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionResetError
        return body

    def _is_gone(self) -> bool:
        """Tell whether who asked has hung up."""
        try:
            ready, _, _ = select.select([self.connection], [], [], 0)
            return bool(ready) and not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def _refuse(self, wrong: Wrong) -> None:
        if wrong.status in (401, 503) or (self.command == "POST" and "Content-Length" not in self.headers):
            self.close_connection = True  # what is left of the request is not read
        self._send(wrong.status, wrong.body)

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "5")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


class _Events:
    """Server-sent events, each as soon as it is there. The head goes out with the first, so that a refusal still has its status."""

    def __init__(self, handler: _Handler, reply: Reply) -> None:
        self._handler, self._reply = handler, reply
        self.begun = False

    def piece(self, text: str) -> None:
        self._send([self._reply.piece(text)])

    def finish(self, last: list[dict[str, Any]]) -> None:
        self._send(last)
        self._handler.chunk(b"data: [DONE]\n\n")
        self._handler.wfile.write(b"0\r\n\r\n")

    def _send(self, events: list[dict[str, Any]]) -> None:
        if not self.begun:
            self.begun = True
            self._handler.send_response(200)
            for name, value in (
                ("Content-Type", "text/event-stream; charset=utf-8"),
                ("Cache-Control", "no-cache"),
                ("Transfer-Encoding", "chunked"),
            ):
                self._handler.send_header(name, value)
            self._handler.end_headers()
            events = [*self._reply.begin(), *events]
        self._handler.chunk(b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events))
