"""An S3 server that takes everything and keeps it in memory: enough of S3 for a commit with proof, and for its peers.

    python -m bench.sink PORT CERTIFICATE KEY FOLDER BYTES

It looks at no signature and computes no checksum: it gives back those that it was told. An object is its parts, never
put together, so Complete costs nothing. What it costs is taken from the client that is measured, so: a process a
connection (threads would wait for each other), one system call for many records of TLS, and room for BYTES of bodies that
is there before the first request.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import signal
import socket
import ssl
import sys
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from socketserver import ForkingMixIn
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4
from xml.sax.saxutils import escape

_BLOCK = 1 << 20
_RECORD = 1 << 14


class _Wire(io.RawIOBase):
    """A connection with TLS, which takes as much from the socket at once as is there: an SSLSocket asks twice for each 16 KiB."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self.connection, self.came, self.goes = connection, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes, server_side=True)
        self.space = memoryview(bytearray(_BLOCK))
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.send()
                if not self.receive():
                    raise ConnectionResetError from None
        self.send()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def receive(self) -> int:
        number = self.connection.recv_into(self.space)
        self.came.write(self.space[:number])
        return number

    def send(self) -> None:
        if self.goes.pending:
            self.connection.sendall(self.goes.read())

    def readinto(self, into: Any) -> int:
        """Give what has come, waiting only for the first of it."""
        view, got = memoryview(into).cast("B"), 0
        while got < len(view):
            try:
                number = self.tls.read(_RECORD, view[got : got + _RECORD])
            except ssl.SSLWantReadError:
                if got or not self.receive():
                    break
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            if not number:
                break
            got += int(number)
        return got

    def write(self, data: Any) -> int:
        self.tls.write(data)
        self.send()
        return len(data)


class _Room:
    """Memory for bodies, shared by all processes."""

    def __init__(self, path: Path, size: int) -> None:
        self.file, self.size = os.open(path, os.O_RDWR | os.O_CREAT), size
        self.taken: Synchronized[int] = multiprocessing.Value("q", 0)
        os.posix_fallocate(self.file, 0, size)

    def take(self, length: int) -> int:
        """Return where so many bytes can be kept."""
        with self.taken.get_lock():
            start = self.taken.value
            self.taken.value = start + length
        if start + length > self.size:
            raise OSError(f"there is room for {self.size} bytes only")
        return start


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    room: _Room
    context: ssl.SSLContext
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Shake hands in the connection's own process."""
        self.connection = self.request
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = _Wire(self.connection, self.context)
        self.rfile, self.wfile = io.BufferedReader(wire, _RECORD), cast(io.BufferedIOBase, wire)  # nothing waits in it
        self.space = memoryview(bytearray(_BLOCK))

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

    def take(self) -> tuple[int, int]:
        """Keep the body; returns where, and its length. Some wrap it in chunks of their own: what counts is what they say is in them."""
        length = int(self.headers.get("x-amz-decoded-content-length") or self.headers.get("Content-Length") or 0)
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            whole = int(self.headers.get("Content-Length") or 0)
            start = self.room.take(whole)
            self.move(start, whole)
            return start, length
        start = at = self.room.take(length + length // 64 + _RECORD)
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            self.move(at, size)
            self.rfile.readline()
            at += size
        while self.rfile.readline().strip():
            pass  # trailers
        return start, length

    def move(self, at: int, length: int) -> None:
        while length and (number := self.rfile.readinto(self.space[:length])):
            os.pwrite(self.room.file, self.space[:number], at)
            at, length = at + number, length - number

    def do_PUT(self) -> None:
        """Take a part, an object, or a bucket."""
        crc, sums = self.headers.get("x-amz-checksum-crc32", ""), self.sums()
        if "partNumber" in self.query:
            number, place = int(self.query["partNumber"]), self.take()
            (self.folder / self.query["uploadId"] / f"{number:05d}").write_text(json.dumps([number, *place, crc]))
        elif self.key:
            self.keep(sums, [self.take()])
        self.answer(200, ETag='"0"')

    def do_POST(self) -> None:
        """Begin an upload, or complete it."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "uploads" in self.query:
            name = uuid4().hex
            (self.folder / name).mkdir()
            self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>".encode())
            return
        self.keep(self.sums(), [(start, size) for _, start, size, _ in self.parts()])
        named = escape(self.key)
        said = f"<CompleteMultipartUploadResult><Key>{named}</Key><ETag>&quot;0-1&quot;</ETag></CompleteMultipartUploadResult>"
        self.answer(200, said.encode())

    def parts(self) -> list[tuple[int, int, int, str]]:
        """Return number, place, size and CRC32 of each part that has come of an upload."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / self.query["uploadId"]).iterdir())]

    def sums(self) -> dict[str, str]:
        """Return the checksums that a request announces."""
        return {name: value for name, value in self.headers.items() if name.lower() in ("x-amz-checksum-crc32", "x-amz-checksum-sha256")}

    def keep(self, sums: dict[str, str], parts: list[tuple[int, int]]) -> None:
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

    def read(self, parts: list[tuple[int, int]], start: int, end: int) -> bytes:
        """Return a range of an object, which is short: only proofs read here."""
        pieces, at = [], 0
        for place, size in parts:
            first, last = max(start, at), min(end, at + size)
            if first < last:
                pieces.append(os.pread(self.room.file, last - first, place + first - at))
            at += size
        return b"".join(pieces)

    def list_parts(self) -> None:
        text = ""
        for number, _, size, crc in self.parts():
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


class _Server(ForkingMixIn, HTTPServer):
    request_queue_size = 512
    max_children = 1000

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none of our business."""


def main(port: int, certificate: str, key: str, folder: Path, size: int) -> None:
    """Serve until the process is ended."""
    os.setpgrp()
    (folder / "objects").mkdir(exist_ok=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    served = {"folder": folder, "context": context, "room": _Room(folder / "bodies", size)}
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))  # with every connection's process
    _Server(("127.0.0.1", port), type("Handler", (_Handler,), served)).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
