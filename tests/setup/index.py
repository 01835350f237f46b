"""A package index on loopback, and a wheel of uv that says its version: what tests of set-up fetch from."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Index:
    """What is served by path, as (content type, body), and what was asked for."""

    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    login: str | None = None
    url: str = ""

    def add_page(self, path: str, names_and_urls: dict[str, str]) -> None:
        anchors = "".join(f'<a href="{url}">{name}</a><br/>' for name, url in names_and_urls.items())
        self.files[path] = ("text/html", f"<!DOCTYPE html><html><body>{anchors}</body></html>".encode())


@contextlib.contextmanager
def serve(index: Index) -> Iterator[Index]:
    """Serve an index until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            wanted = "Basic " + base64.b64encode(index.login.encode()).decode() if index.login else None
            if wanted and self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.end_headers()
                return
            kind, body = index.files.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        index.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()


def uv_wheel(version: str) -> tuple[bytes, str]:
    """Return (content, sha256) of a wheel whose uv prints its version."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        program = zipfile.ZipInfo(f"uv-{version}.data/scripts/uv")
        program.external_attr = 0o100755 << 16
        archive.writestr(program, f"#!/bin/sh\necho uv {version}\n")
        archive.writestr(f"uv-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: uv\nVersion: {version}\n")
        archive.writestr(f"uv-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n")
        archive.writestr(f"uv-{version}.dist-info/RECORD", "")
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()
