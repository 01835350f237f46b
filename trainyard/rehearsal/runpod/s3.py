"""RunPod's S3 in front of the local S3 server: one network volume as a bucket, with everything refused that RunPod lacks.

Signatures cover the Host header, which is handed on as it is, so the real server behind checks them. What a pod writes
into the volume's folder is an object here, as in life.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LARGEST = 500_000_000
"""Bytes of one PUT or one part."""
_MISSING = frozenset(
    {"acl", "cors", "delete", "encryption", "legal-hold", "lifecycle", "location", "object-lock", "policy", "restore", "retention",
     "tagging", "versioning", "versions", "website"}
)  # fmt: skip
_HOP = ("connection", "content-length", "transfer-encoding", "keep-alive")


class S3Server(ThreadingHTTPServer):
    """One data center's endpoint; ``bucket`` is the id of the only volume there is."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: int, bucket: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.bucket = upstream, bucket
        self.refused: list[str] = []

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hung up."""


def start_s3(upstream: int, bucket: str) -> S3Server:
    """Serve a bucket of the S3 server at a loopback port as RunPod would; ``shutdown`` and ``server_close`` end it."""
    server = S3Server(upstream, bucket)
    threading.Thread(target=server.serve_forever, args=(0.05,), name="rehearsal s3", daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    server: S3Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        why = self._refusal(parts.path.lstrip("/"), parse_qs(parts.query, keep_blank_values=True), length)
        if why is None:
            self._pass_on(body)
            return
        status, code, message = why
        self.server.refused.append(message)
        self._reply(status, [], f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _refusal(self, path: str, query: dict[str, list[str]], length: int) -> tuple[int, str, str] | None:
        bucket, _, key = path.partition("/")
        if "X-Amz-Signature" in query or "X-Amz-Credential" in query:
            return 403, "AccessDenied", "presigned URLs are not supported"
        if missing := _MISSING & query.keys():
            return 501, "NotImplemented", f"?{min(missing)} is not implemented"
        if bucket and bucket != self.server.bucket:
            return 404, "NoSuchBucket", f"there is no network volume {bucket}"
        if not key and self.command in ("PUT", "DELETE"):
            return 501, "NotImplemented", "buckets are network volumes: use the RunPod API"
        if self.command == "PUT" and length > LARGEST:
            return 400, "EntityTooLarge", "one request carries at most 500 MB"
        return None

    def _pass_on(self, body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP]
            self._reply(response.status, headers, response.read(), response.getheader("Content-Length"))

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        head = self.command == "HEAD"
        self.send_header("Content-Length", length if head and length is not None else str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)
