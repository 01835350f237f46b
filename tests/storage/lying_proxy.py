"""A real HTTP server between a client and the S3 server that passes requests on, or lies as told.

Signatures cover the Host header, which it hands on unchanged, so everything it does not touch stays valid.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

ONLY_ABORTS = re.compile(r"<Rule>(?:(?!</Rule>|Expiration).)*AbortIncomplete(?:(?!</Rule>|Expiration).)*</Rule>")
"""A rule that says nothing else: MinIO refuses it, and drops it in silence beside an expiration."""
Act = Literal[
    "fail",  # answer 500 (or ``status``) without asking the server
    "drop",  # close the connection before the server has seen the request
    "lose",  # let the server do it, then close the connection: the answer is lost
    "swallow",  # answer 200 with an invented ETag, and do nothing
    "corrupt",  # flip a bit of the body on its way to the server
    "garble",  # flip a bit of the answer's body
    "undate",  # let the server do it, and leave the date of its answer out
    "betray",  # let the server do it, then answer 500 (or ``status``)
    "repeat",  # say that a listing goes on, with the same continuation token each time
    "cut",  # close the connection in the middle of the answer's body
    "call",  # run ``then`` before passing on
    "call after",  # run ``then`` when the server has answered, before the client hears it
]


@dataclass(slots=True)
class Fault:
    """What to do to the requests of an operation, ``times`` times after having passed on ``after`` of them."""

    operation: str
    act: Act
    times: int = 1
    after: int = 0
    key: str = ""
    status: int = 500
    code: str = ""
    then: Callable[[], None] = lambda: None
    signed: bool = False
    """Only requests by a presigned URL: those of a pod."""
    over: Callable[[], bool] = lambda: False
    """Asked before each of them: the fault is no more when it says so."""
    done: int = 0


@dataclass(slots=True)
class Seen:
    """One request."""

    operation: str
    key: str
    headers: dict[str, str]
    query: dict[str, str]
    length: int


@dataclass(slots=True)
class LyingProxy:
    """The running proxy; ``faults`` may be changed at any time."""

    port: int
    server: ThreadingHTTPServer
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    # How the bucket's ?lifecycle is treated: passed on, kept by a store that rewrites, or ignored as some servers do.
    lifecycle: Literal["pass", "rewrite", "no aborts", "ignore"] = "pass"
    rules: str | None = None
    refuses_signed_urls: bool = False
    absent_is_403: bool = False
    """As stores do to a key that may not list."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        with self.lock:
            self.faults, self.seen, self.lifecycle, self.rules = [], [], "pass", None
            self.refuses_signed_urls = self.absent_is_403 = False

    def count(self, operation: str) -> int:
        with self.lock:
            return sum(1 for one in self.seen if one.operation == operation)

    def fault_for(self, seen: Seen) -> Fault | None:
        with self.lock:
            self.seen.append(seen)
            for fault in self.faults:
                if fault.operation not in (seen.operation, "any") or fault.key not in seen.key:
                    continue
                if fault.signed and "X-Amz-Signature" not in seen.query:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                elif fault.done < fault.times and not fault.over():
                    fault.done += 1
                    return fault
        return None


def operation_of(method: str, query: dict[str, str], key: str) -> str:
    """Return the name of the S3 operation of a request."""
    if not key:
        if "lifecycle" in query:
            return f"{method} lifecycle"
        return {"HEAD": "HeadBucket", "PUT": "CreateBucket"}.get(method, "List")
    if method == "PUT":
        return "UploadPart" if "partNumber" in query else "Put"
    if method == "POST":
        return "Complete" if "uploadId" in query else "CreateUpload"
    if method == "GET":
        return "ListParts" if "uploadId" in query else "Get"
    if method == "DELETE":
        return "Abort" if "uploadId" in query else "Delete"
    return "Head"


def start(upstream: int) -> LyingProxy:
    """Start a proxy in front of the S3 server at a loopback port."""

    class Handler(_Handler):
        pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    proxy = LyingProxy(server.server_address[1], server)
    Handler.proxy, Handler.upstream = proxy, upstream
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return proxy


class _Handler(BaseHTTPRequestHandler):
    proxy: LyingProxy
    upstream: int
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_any(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        operation = operation_of(self.command, query, key)
        fault = self.proxy.fault_for(Seen(operation, key, {k.lower(): v for k, v in self.headers.items()}, query, len(body)))
        act = fault.act if fault else None
        if operation.endswith(" lifecycle") and self.proxy.lifecycle != "pass" and act is None:
            self.keep_lifecycle(body)
            return
        if self.proxy.refuses_signed_urls and "X-Amz-Signature" in query:
            self.reply(501, b"<Error><Code>NotImplemented</Code></Error>")
            return
        if act == "call" and fault:
            fault.then()
        if act == "drop":
            self.hang_up()
        elif act == "fail" and fault:
            self.fail(fault)
        elif act == "swallow":
            self.reply(200, _invented(operation, key), {"ETag": '"00000000000000000000000000000000"'})
        else:
            self.pass_on(flipped(body) if act == "corrupt" else body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any

    def pass_on(self, body: bytes, fault: Fault | None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            answer = response.read()
        except OSError:
            self.hang_up()
            return
        finally:
            connection.close()
        if fault and fault.act == "call after":
            fault.then()
        if fault and (fault.act == "lose" or (fault.act == "cut" and self.command == "HEAD")):  # such an answer has no body to cut
            self.hang_up()
            return
        if self.proxy.absent_is_403 and response.status == 404:
            self.reply(403, b"<Error><Code>AccessDenied</Code></Error>")
            return
        headers = {k: v for k, v in response.getheaders() if k.lower() not in ("content-length", "connection", "transfer-encoding")}
        if fault and fault.act == "undate":
            headers.pop("Last-Modified", None)
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        if fault and fault.act == "cut":
            self.reply(response.status, answer[: len(answer) // 2], headers, str(len(answer)))
            self.hang_up()
            return
        self.reply(response.status, flipped(answer) if fault and fault.act == "garble" else answer, headers, length)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, length: str | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", length if length is not None else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, fault: Fault) -> None:
        known = {501: "NotImplemented", 403: "AccessDenied", 507: "InsufficientStorage"}
        code = fault.code or known.get(fault.status, "InternalError")
        self.reply(fault.status, f"<Error><Code>{code}</Code><Message>a lie</Message></Error>".encode())

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def keep_lifecycle(self, body: bytes) -> None:
        proxy = self.proxy
        if proxy.lifecycle == "ignore":
            self.reply(200, b"<LifecycleConfiguration/>" if self.command == "GET" else b"")
        elif self.command == "PUT" and proxy.lifecycle == "no aborts" and ONLY_ABORTS.search(body.decode()):
            self.reply(400, b"<Error><Code>InvalidArgument</Code><Message>not well-formed</Message></Error>")
        elif self.command == "PUT":
            text = (
                re.sub("<AbortIncomplete.*?</AbortIncomplete[A-Za-z]*>", "", body.decode())
                if proxy.lifecycle == "no aborts"
                else body.decode()
            )
            proxy.rules = rewritten(text)
            self.reply(200, b"")
        elif self.command == "DELETE":
            proxy.rules = None
            self.reply(204, b"")
        elif proxy.rules is None:
            self.reply(404, b"<Error><Code>NoSuchLifecycleConfiguration</Code></Error>")
        else:
            self.reply(200, proxy.rules.encode())


def rewritten(text: str) -> str:
    """Return a lifecycle configuration as some stores give it back: sorted by ID, an empty filter at the top level."""
    rules = re.findall(r"<Rule>.*?</Rule>", text, re.DOTALL)
    rules = [re.sub(r"<Filter><Prefix\s*/></Filter>|<Filter><Prefix></Prefix></Filter>", "<Prefix></Prefix>", rule) for rule in rules]
    rules.sort(key=lambda rule: re.search(r"<ID>(.*?)</ID>", rule)[1])  # type: ignore[index]
    return '<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' + "".join(rules) + "</LifecycleConfiguration>"


def flipped(body: bytes) -> bytes:
    """Return the body with one bit flipped in its middle."""
    if not body:
        return body
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def _invented(operation: str, key: str) -> bytes:
    if operation != "Complete":
        return b""
    return f"<CompleteMultipartUploadResult><Key>{key}</Key><ETag>&quot;0&quot;</ETag></CompleteMultipartUploadResult>".encode()
