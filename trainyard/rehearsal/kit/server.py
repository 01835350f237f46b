"""The front door of an emulator: sockets, keys, rate limits, latency, faults, streams, and the list of requests.

On the standard library's server: faults need the socket itself (no answer at all, silence until the client goes), and
an ASGI server keeps it to itself; it answers 500 where a connection shall be dropped.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import select
import socket
import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from trainyard.rehearsal.kit import ledger
from trainyard.rehearsal.kit.alter import alter, listed, value, with_pods
from trainyard.rehearsal.kit.cloud import ACCOUNT, ErrorAnswer, HttpProblem, Reply, Request, Route
from trainyard.rehearsal.kit.fleet import Fleet
from trainyard.rehearsal.kit.limits import Limits

_PAGE = "<html><head><title>{code}</title></head><body><center><h1>{code}</h1></center><hr></body></html>"
HANG = 120.0
"""Seconds that a connection is kept without an answer, where nothing else is said."""


class Dropped(Exception):
    """The connection is to be closed without an answer."""


class Server(ThreadingHTTPServer):
    """One address of an emulated cloud."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, fleet: Fleet, key: str, limits: Limits, latency: float) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.fleet, self.cloud, self.faults = fleet, fleet.cloud, fleet.faults
        self.key, self.limits, self.latency = key, limits, latency

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hung up."""

    def who(self, header: str) -> str | None:
        """Return whose key it is: ``account``, a pod's id, None for nobody's."""
        key = _key_in(header)
        if key and key == self.key:
            return ACCOUNT
        return next((r["id"] for r in list(self.fleet.ledger.pods.values()) if key and r["key"] == key), None)

    def route(self, method: str, path: str) -> tuple[Route | None, tuple[str, ...], ErrorAnswer | None]:
        """Return the route of a request and what its stars stand for, else what is wrong with it."""
        parts, others = path.rstrip("/").split("/"), False
        for route in self.cloud.routes:
            names = route.path.rstrip("/").split("/")
            if len(names) == len(parts) and all(n in ("*", p) for n, p in zip(names, parts, strict=True)):
                if route.method == method:
                    return route, tuple(p for n, p in zip(names, parts, strict=True) if n == "*"), None
                others = True
        if others:
            return None, (), ErrorAnswer(405, "The requested method is not allowed for this path.")
        return None, (), ErrorAnswer(404, "resource not found")


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
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line: dict[str, Any] = {"time": self.server.fleet.now(), "method": self.command, "path": parts.path}
        time.sleep(self.server.latency)
        reply: Reply | None = None
        try:
            reply = self._answer(parts.path, parts.query, body, line)
            line["status"] = reply.status
        except Dropped:
            line["status"] = "dropped"
            self.close_connection = True
        finally:
            # Before the answer leaves: who has it and then asks for the list of requests finds it there.
            ledger.note_request(self.server.fleet.ledger.root, line)
        if reply is not None:
            self._send(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _answer(self, path: str, query: str, body: bytes, line: dict[str, Any]) -> Reply:
        cloud, header = self.server.cloud, self.headers.get(self.server.cloud.key_header, "")
        who = self.server.who(header)
        line["who"] = who or "nobody"
        route, ids, wrong = self.server.route(self.command, path)
        if route is not None and route.keyless:
            return self._dispatch(route, Request(self.command, path, query, body, "nobody", ids), wrong)
        if who is None:
            return cloud.error_reply(cloud.refusals["unauthorized"] if header else ErrorAnswer(401, "missing bearer token"))
        taken = self.server.limits.take(route.call if route else "")
        headers = taken.headers if cloud.limit_headers else {}
        if taken.exceeded:
            window = taken.exceeded
            code = window.name if window.call else ""
            reply = cloud.error_reply(ErrorAnswer(429, f"rate limit exceeded for the {window.name} window", code))
            reply.headers = headers | ({} if window.call else {"Retry-After": str(taken.wait)})
            return reply
        line["call"] = route.call if route else ""
        if once := self.headers.get("X-Idempotency-Key"):
            line["once"] = once
        asked = Request(self.command, path, query, body, who, ids, {name.lower(): text for name, text in self.headers.items()})
        reply = self._with_faults(route, asked, wrong, line)
        reply.headers = headers | reply.headers
        return reply

    def _with_faults(self, route: Route | None, request: Request, wrong: ErrorAnswer | None, line: dict[str, Any]) -> Reply:
        cloud, call = self.server.cloud, route.call if route else ""
        refused = self._pod_key(route, request)
        if refused is not None:
            return cloud.error_reply(refused)
        fault = self.server.faults.met("reply", call)
        if fault is None:
            reply = self._dispatch(route, request, wrong)
            change = self.server.faults.met("alter", call)
            line["fault"] = change["name"] if change else None
            living = {record["id"] for record in self.server.fleet.all()}
            return alter(change["how"], reply, cloud.fields, cloud.changes, living) if change else reply
        line["fault"] = fault["name"]
        if "how" in fault:
            return alter(fault["how"], self._dispatch(route, request, wrong), cloud.fields, cloud.changes)
        time.sleep(fault.get("delay", 0.0))
        done: Reply | None = None
        if fault.get("after") or "delay" in fault or fault.get("cut"):
            done = self._dispatch(route, request, wrong)
            # A request that is refused anyway meets no fault after the deed.
            if "delay" in fault or done.status >= 400:
                return done
        if fault.get("hang"):
            self._hang(fault.get("silent", HANG))
        if fault.get("drop") or fault.get("hang"):
            raise Dropped
        return self._fault_reply(fault, done)

    def _dispatch(self, route: Route | None, request: Request, wrong: ErrorAnswer | None) -> Reply:
        try:
            if route is None:
                return self.server.cloud.error_reply(wrong or ErrorAnswer(404, "resource not found"))
            return self._with_lag(route, request, route.handle(self.server.fleet, request))
        except HttpProblem as error:
            return self.server.cloud.error_reply(error.answer)

    def _pod_key(self, route: Route | None, request: Request) -> ErrorAnswer | None:
        """Return why a pod's own key may not do this, None where it may."""
        if request.who == ACCOUNT:
            return None
        fault = self.server.faults.met("key")
        if fault and "status" in fault and not (route and route.call == fault.get("spares")):
            return ErrorAnswer(fault["status"], "access denied")
        if route and (route.pods == "all" or (route.pods == "own" and request.id == request.who)):
            return None
        return self.server.cloud.refusals["forbidden"]

    def _with_lag(self, route: Route, request: Request, reply: Reply) -> Reply:
        """Let the newest pods be missing still, and the ones just ended be there."""
        lag = self.server.faults.met("lag") if route.call in ("list", "get") else None
        if lag is None or reply.status != 200:
            return reply
        fleet, cloud, fields = self.server.fleet, self.server.cloud, self.server.cloud.fields
        horizon = fleet.now() - lag.get("lag", fleet.timing.lag)
        young = {r["id"] for r in fleet.all() if r["created"] > horizon}
        if route.call == "get" and lag.get("get") and request.id in young:
            raise cloud.refuse("not found")
        pods = listed(reply.body, fields) if route.call == "list" else None
        if pods is not None and lag.get("list"):
            reply.body = with_pods(reply.body, fields, [pod for pod in pods if str(value(pod, fields.id)) not in young])
        if pods is not None and lag.get("ghost"):
            gone = [r for r in ledger.gone(fleet.ledger.root) if r.get("ended", 0) > horizon]
            for record in gone:
                record["status"] = "RUNNING"
            reply.body = with_pods(reply.body, fields, [*pods, *(cloud.show(fleet, record) for record in gone)])
        return reply

    def _fault_reply(self, fault: Mapping[str, Any], done: Reply | None) -> Reply:
        cloud, headers = self.server.cloud, dict(fault.get("headers", {}))
        if "refusal" in fault:
            return cloud.error_reply(cloud.refusals[fault["refusal"]])
        if fault.get("ignored"):
            status, body = cloud.deleted
            return Reply(status, body, headers)
        if fault.get("another"):
            return self._another()
        status = fault.get("status", done.status if done else 200)
        if fault.get("cut") and done is not None:
            text = json.dumps(done.body)
            return Reply(status, text[: 2 * len(text) // 3], headers)
        if fault.get("page"):
            return Reply(status, _PAGE.format(code=f"{status} {HTTPStatus(status).phrase}"), headers, "text/html")
        for name in ("raw", "body"):
            if name in fault:
                return Reply(status, fault[name], headers)
        reply = cloud.error_reply(ErrorAnswer(status, fault.get("detail", HTTPStatus(status).phrase)))
        reply.headers = headers
        return reply

    def _another(self) -> Reply:
        """Return an answer about a pod that was not asked for, and is none."""
        fleet, cloud = self.server.fleet, self.server.cloud
        record = next(iter([*fleet.all(), *ledger.gone(fleet.ledger.root)]), None)
        if record is None:
            return cloud.error_reply(cloud.refusals["not found"])
        shown = cloud.show(fleet, record)
        single = cloud.fields.single
        return alter("another pod", Reply(200, {single: shown} if single else shown), cloud.fields, cloud.changes)

    def _send(self, reply: Reply) -> None:
        if reply.chunks is not None:
            self._stream(reply)
            return
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        payload, kind = (b"", {}) if reply.status == 204 else (text.encode(), {"Content-Type": reply.content_type})
        self._head(reply.status, reply.headers | kind | {"Content-Length": str(len(payload))})
        self.wfile.write(payload)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        self.send_header("Date", formatdate(self.server.fleet.clock(), usegmt=True))
        for name, text in headers.items():
            if status != 204 or name != "Content-Length":
                self.send_header(name, text)
        self.end_headers()

    def _stream(self, reply: Reply) -> None:
        self._head(200, {"Content-Type": reply.content_type, "Cache-Control": "no-cache", "Connection": "keep-alive"})
        for chunk in reply.chunks or ():
            self.wfile.write(chunk)
        self.close_connection = True
        self._hang(HANG)

    def _hang(self, seconds: float) -> None:
        """Keep silent until the client goes."""
        with contextlib.suppress(OSError):
            select.select([self.connection], [], [], seconds)


def _key_in(header: str) -> str:
    """Return the key of a header: ``Bearer KEY``, ``Basic`` with the key as the user, or the key alone."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(rest.strip()).decode().partition(":")[0]
    return rest.strip() if rest else header.strip()
