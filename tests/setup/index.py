"""A package index on loopback, and a wheel of uv that says its version: what tests of set-up fetch from."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import json
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

    def add_page(self, path: str, names_and_urls: dict[str, str], *, as_json: bool = False) -> None:
        if as_json:
            body = json.dumps({"files": [{"filename": name, "url": url} for name, url in names_and_urls.items()]}).encode()
            self.files[path] = ("application/vnd.pypi.simple.v1+json", body)
        else:
            anchors = "".join(f'<a href="{url}#sha256=00">{name}</a><br/>' for name, url in names_and_urls.items())
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
        archive.writestr(f"uv-{version}.data/scripts/uv", f"#!/bin/sh\necho uv {version}\n")
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()
