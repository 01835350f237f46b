"""An S3 server that takes everything and keeps it in a folder: enough of S3 for a commit with proof, and for its peers.

    python -m bench.sink PORT CERTIFICATE KEY FOLDER

It looks at no signature and computes no checksum: it gives back those that it was told. An object is its parts, never
put together, so Complete costs nothing. Two processes serve the port.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4
from xml.sax.saxutils import escape

_BLOCK = 1 << 18
_PROCESSES = 2


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def handle(self) -> None:
        """Serve a connection; a client that goes away is none of our business."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query, keep_blank_values=True).items()}

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def place(self) -> Path:
        """Return where the object of this request is told of."""
        return self.folder / "objects" / sha256(self.key.encode()).hexdigest()

    def take(self, path: Path) -> int:
        """Keep the body as a file; returns its length."""
        with path.open("wb", buffering=0) as file:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                length = int(self.headers.get("Content-Length") or 0)
                self.move(file, length)
                # Some clients wrap the body in chunks of their own: what counts is what they say is in them.
                return int(self.headers.get("x-amz-decoded-content-length") or length)
            total = 0
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                self.move(file, size)
                self.rfile.readline()
                total += size
            while self.rfile.readline().strip():
                pass  # trailers
            return total

    def move(self, file: FileIO, length: int) -> None:
        space = memoryview(bytearray(min(_BLOCK, max(1, length))))
        while length and (number := self.rfile.readinto(space[:length])):
            file.write(space[:number])
            length -= number

    def do_PUT(self) -> None:
        """Take a part, an object, or a bucket."""
        crc, sums = self.headers.get("x-amz-checksum-crc32", ""), self.sums()
        if "partNumber" in self.query:
            upload = self.folder / self.query["uploadId"]
            draft = upload / uuid4().hex
            size = self.take(draft)
            number = int(self.query["partNumber"])
            draft.rename(upload / f"{number:05d}")
            (upload / f"{number:05d}.json").write_text(json.dumps([number, size, crc]))
        elif self.key:
            path = self.folder / uuid4().hex
            self.keep(sums, [(str(path), self.take(path))])
        self.answer(200, ETag='"0"')

    def do_POST(self) -> None:
        """Begin an upload, or complete it."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "uploads" in self.query:
            name = uuid4().hex
            (self.folder / name).mkdir()
            self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>".encode())
            return
        upload = self.folder / self.query["uploadId"]
        parts = [(str(path), json.loads(path.with_suffix(".json").read_text())[1]) for path in sorted(upload.glob("?????"))]
        self.keep(self.sums(), parts)
        named = escape(self.key)
        said = f"<CompleteMultipartUploadResult><Key>{named}</Key><ETag>&quot;0-1&quot;</ETag></CompleteMultipartUploadResult>"
        self.answer(200, said.encode())

    def sums(self) -> dict[str, str]:
        """Return the checksums that a request announces."""
        return {name: value for name, value in self.headers.items() if name.lower() in ("x-amz-checksum-crc32", "x-amz-checksum-sha256")}

    def keep(self, sums: dict[str, str], parts: list[tuple[str, int]]) -> None:
        """Make an object visible."""
        draft = self.folder / uuid4().hex
        draft.write_text(json.dumps({"key": self.key, "sums": sums, "parts": parts, "size": sum(size for _, size in parts)}))
        draft.rename(self.place())

    def object(self) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads(self.place().read_text())
        except OSError:
            return None
        return content

    def do_DELETE(self) -> None:
        """Forget nothing: the folder goes away as a whole."""
        self.answer(204)

    def do_HEAD(self) -> None:
        """Tell of an object."""
        self.do_GET()

    def do_GET(self) -> None:
        """Tell of an object or a range of it, or list."""
        if "uploadId" in self.query:
            return self.list_parts()
        if not self.key:
            return self.list()
        found = self.object()
        if found is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code><Message>there is none</Message></Error>")
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(span[1]) if span else 0
        end = min(found["size"], int(span[2]) + 1 if span and span[2] else found["size"])
        told = {"ETag": '"0"', "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", **found["sums"]}
        if self.command == "HEAD":
            return self.answer(200, b"", **{**told, "Content_Length": str(found["size"])})
        return self.answer(206 if span else 200, self.read(found["parts"], start, end), **told)

    def read(self, parts: list[tuple[str, int]], start: int, end: int) -> bytes:
        """Return a range of an object, which is short: only proofs read here."""
        pieces, at = [], 0
        for path, size in parts:
            first, last = max(start, at), min(end, at + size)
            if first < last:
                with open(path, "rb") as file:
                    file.seek(first - at)
                    pieces.append(file.read(last - first))
            at += size
        return b"".join(pieces)

    def list_parts(self) -> None:
        text = ""
        for path in sorted((self.folder / self.query["uploadId"]).glob("*.json")):
            number, size, crc = json.loads(path.read_text())
            text += f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;0&quot;</ETag><Size>{size}</Size>"
            text += f"<ChecksumCRC32>{crc}</ChecksumCRC32></Part>"
        self.answer(200, f"<ListPartsResult><IsTruncated>false</IsTruncated>{text}</ListPartsResult>".encode())

    def list(self) -> None:
        """List objects; of open uploads there are none to tell of."""
        if "uploads" in self.query:
            return self.answer(200, b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
        text = ""
        for path in (self.folder / "objects").glob("*"):
            one = json.loads(path.read_text())
            if one["key"].startswith(self.query.get("prefix", "")):
                text += f"<Contents><Key>{escape(one['key'])}</Key><Size>{one['size']}</Size><ETag>&quot;0&quot;</ETag>"
                text += "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
        return self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{text}</ListBucketResult>".encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none of our business."""


def main(port: int, certificate: str, key: str, folder: Path) -> None:
    """Serve until the process is ended."""
    (folder / "objects").mkdir(exist_ok=True)
    listening = socket.create_server(("127.0.0.1", port), backlog=512)
    parent = os.getpid()
    for _ in range(_PROCESSES - 1):
        if os.fork() == 0:
            break
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"folder": folder}), bind_and_activate=False)
    server.socket.close()
    server.socket, server.context = listening, context
    if os.getpid() != parent:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    server.serve_forever()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
