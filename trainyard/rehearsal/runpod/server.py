"""The rehearsal's front door: sockets, keys, rate limits, faults, log streams, and the check of every answer.

On the standard library's server: faults need the socket itself (no answer at all, silence until the client goes), and
an ASGI server keeps it to itself; it answers 500 where a connection shall be dropped.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from trainyard.clock import format_time
from trainyard.rehearsal.runpod import graphql, ledger, schema
from trainyard.rehearsal.runpod.alter import alter
from trainyard.rehearsal.runpod.rest import TITLES, HttpProblem, Reply, Request, Rest

_PAGE = "<html><head><title>{code}</title></head><body><center><h1>{code}</h1></center><hr></body></html>"
HANG = 120.0
WINDOWS = (("minute", 60), ("hour", 3600), ("day", 86400))


@dataclass(slots=True)
class Limits:
    """The account's rate limits, a fixed window each."""

    most: Mapping[str, int] = field(default_factory=lambda: {"minute": 60, "hour": 3000, "day": 50000})
    now: Callable[[], float] = time.time
    _used: dict[str, tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> tuple[dict[str, str], str | None, int]:
        """Count a request; return (headers, the window that is exceeded, seconds until it is not)."""
        parts, exceeded, wait = [], None, 0
        with self._lock:
            for name, length in WINDOWS:
                window = int(self.now() // length)
                used = self._used.get(name, (window, 0))
                used = (window, used[1] + 1 if used[0] == window else 1)
                self._used[name] = used
                left, reset = max(0, self.most[name] - used[1]), int(length - self.now() % length) + 1
                parts.append(f'"{name}";r={left};t={reset}')
                if used[1] > self.most[name]:
                    exceeded, wait = name, reset
        policy = ", ".join(f'"{name}";q={self.most[name]};w={length}' for name, length in WINDOWS)
        return {"RateLimit": ", ".join(parts), "RateLimit-Policy": policy}, exceeded, wait


class Dropped(Exception):
    """The connection is to be closed without an answer."""


class Server(ThreadingHTTPServer):
    """One address for REST (``/v2``) and GraphQL (``/graphql``)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, rest: Rest, key: str, limits: Limits) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.rest, self.key, self.limits = rest, key, limits
        self.faults, self.fleet = rest.fleet.faults, rest.fleet

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hung up."""

    def who(self, authorization: str) -> str | None:
        """Return whose key it is: ``account``, a pod's id, None for nobody's."""
        key = authorization.removeprefix("Bearer ").strip()
        if key and key == self.key:
            return "account"
        return next((r["id"] for r in list(self.fleet.ledger.pods.values()) if key and r["key"] == key), None)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        """Send small answers at once."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests out of the terminal: they are in requests.jsonl."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        line: dict[str, Any] = {"time": self.server.fleet.now(), "method": self.command, "path": parts.path}
        try:
            reply = self._answer(parts.path, parts.query, body, line)
            line["status"] = reply.status
            self._send(reply)
        except Dropped:
            line["status"] = "dropped"
            self.close_connection = True
        finally:
            ledger.note_request(self.server.fleet.ledger.root, line)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _answer(self, path: str, query: str, body: bytes, line: dict[str, Any]) -> Reply:
        who = self.server.who(self.headers.get("Authorization", ""))
        line["who"] = who or "nobody"
        if who is None:
            return HttpProblem(401, "invalid bearer token" if self.headers.get("Authorization") else "missing bearer token").reply
        headers, exceeded, wait = self.server.limits.take()
        if exceeded:
            reply = HttpProblem(429, f"rate limit exceeded for the {exceeded} window").reply
            reply.headers = headers | {"Retry-After": str(wait)}
            return reply
        request = Request(self.command, path.removeprefix("/v2"), query, body, who)
        reply = self._with_faults(path, request, line)
        reply.headers = headers | reply.headers
        return reply

    def _with_faults(self, path: str, request: Request, line: dict[str, Any]) -> Reply:
        name = _request_name(self.command, path)
        refused = self._pod_key(request, path)
        if refused is not None:
            return refused
        fault = self.server.faults.met("reply", name)
        if fault is None:
            reply = self._dispatch(path, request)
            change = self.server.faults.met("alter", name)
            line["fault"] = change["name"] if change else None
            return alter(change["how"], reply) if change else reply
        line["fault"] = fault["name"]
        if "how" in fault:
            return alter(fault["how"], self._dispatch(path, request))
        time.sleep(fault.get("delay", 0.0))
        if fault.get("after") or "delay" in fault:
            done = self._dispatch(path, request)
            # A request that is refused anyway meets no fault after the deed.
            if "delay" in fault or done.status >= 400:
                return done
        if fault.get("hang"):
            self._hang(fault.get("silent", HANG))
        if fault.get("drop") or fault.get("hang"):
            raise Dropped
        return _fault_reply(fault)

    def _dispatch(self, path: str, request: Request) -> Reply:
        try:
            if path == "/graphql":
                return graphql.answer(self.server.rest, request)
            if not path.startswith("/v2/"):
                return HttpProblem(404, "resource not found").reply
            if request.path.endswith("/logs"):
                return self._logs(request)
            reply = self.server.rest.answer(request)
        except HttpProblem as problem:
            return problem.reply
        reply = self._with_lag(request, reply)
        if reply.schema and (errors := schema.check(reply.schema, reply.body)):
            # The rehearsal must not teach wrong forms: such an answer is a bug of the rehearsal, and loud.
            return HttpProblem(500, f"the rehearsal's own answer breaks the schema: {errors}").reply
        return reply

    def _pod_key(self, request: Request, path: str) -> Reply | None:
        """Refuse what a pod's own key may not do: anything but looking at and ending that very pod."""
        if request.who == "account":
            return None
        fault = self.server.faults.met("key")
        if fault and "status" in fault and not (path == "/graphql" and fault["name"] == "pod-rest-down"):
            return HttpProblem(fault["status"], "access denied").reply
        if path == "/graphql" or (request.path == f"/pods/{request.who}" and request.method in ("GET", "DELETE")):
            return None
        return HttpProblem(403, "access denied").reply

    def _with_lag(self, request: Request, reply: Reply) -> Reply:
        lag = self.server.faults.met("lag") if request.path.startswith("/pods") and request.method == "GET" else None
        if lag is None or reply.status != 200:
            return reply
        horizon = self.server.fleet.now() - lag.get("lag", self.server.fleet.timing.lag)
        young = {r["id"] for r in self.server.fleet.all() if r["created"] > horizon}
        if request.path == "/pods" and lag.get("list"):
            reply.body["pods"] = [pod for pod in reply.body["pods"] if pod["id"] not in young]
        if request.path == "/pods" and lag.get("ghost"):
            gone = [r for r in ledger.gone(self.server.fleet.ledger.root) if r.get("ended", 0) > horizon]
            reply.body["pods"] += [self.server.rest.show({**r, "status": "RUNNING"}) for r in gone]
        if lag.get("get") and request.path.removeprefix("/pods/") in young:
            return HttpProblem(404, "pod not found").reply
        return reply

    def _logs(self, request: Request) -> Reply:
        """Stream a pod's log as server-sent events until the client goes."""
        record = self.server.fleet.get(request.path.split("/")[2])
        if record is None:
            return HttpProblem(404, "pod not found").reply
        if request.who != "account":
            return HttpProblem(403, "access denied").reply
        source = request.param("source")
        lines = [("system", line) for line in record["system"]] if source != "container" else []
        if source != "system":
            lines += [("container", line) for line in record["lost"] + self.server.fleet.machines.log(record["id"])]
        tail = int(request.param("tail") or 100)
        return Reply(200, lines[-tail:] if tail else [], "events")

    def _send(self, reply: Reply) -> None:
        if reply.schema == "events":
            self._stream(reply.body)
            return
        if reply.status == 204:
            payload, kind = b"", ""
        elif isinstance(reply.body, str):
            payload, kind = reply.body.encode(), "text/html" if reply.body.startswith("<") else "application/json"
        else:
            payload = json.dumps(reply.body).encode()
            kind = "application/problem+json" if reply.schema == "ErrorResponse" else "application/json"
        self._head(reply.status, reply.headers | ({"Content-Type": kind} if kind else {}) | {"Content-Length": str(len(payload))})
        self.wfile.write(payload)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        clock = self.server.faults.met("clock")
        self.send_response_only(status)
        self.send_header("Date", formatdate(self.server.fleet.now() + (clock["seconds"] if clock else 0), usegmt=True))
        for name, value in headers.items():
            if status != 204 or name != "Content-Length":
                self.send_header(name, value)
        self.end_headers()

    def _stream(self, lines: list[tuple[str, str]]) -> None:
        stamp = format_time(self.server.fleet.now())
        self._head(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Connection": "keep-alive"})
        for number, (source, line) in enumerate(lines):
            data = json.dumps({"ts": stamp, "source": source, "line": line})
            self.wfile.write(f"id: {stamp}/{number:012d}\ndata: {data}\n\n".encode())
        self.close_connection = True
        self._hang(HANG)

    def _hang(self, seconds: float) -> None:
        """Keep silent until the client goes."""
        with contextlib.suppress(OSError):
            select.select([self.connection], [], [], seconds)


def _request_name(method: str, path: str) -> str:
    short = re.sub(r"^/v2", "", path)
    return f"{method} {re.sub('^/pods/[^/]+$', '/pods/ID', short)}"


def _fault_reply(fault: Mapping[str, Any]) -> Reply:
    status, headers = fault["status"], dict(fault.get("headers", {}))
    if fault.get("page"):
        return Reply(status, _PAGE.format(code=f"{status} {TITLES.get(status, 'OK')}"), headers=headers)
    if "raw" in fault:
        return Reply(status, fault["raw"], headers=headers)
    if "body" in fault:
        return Reply(status, fault["body"], headers=headers)
    reply = HttpProblem(status, fault.get("detail", TITLES.get(status, "error"))).reply
    reply.headers = headers
    return reply
