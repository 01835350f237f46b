"""Ranges read over TLS: whole, cut off, from somebody who is not trusted."""

from __future__ import annotations

import http.server
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from urllib3.exceptions import HTTPError

from bench.servers import make_certificate
from trainyard.errors import StoreError
from trainyard.secret import Secret
from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings
from trainyard.storage.reader import at_once, blocks, head_at_once

BODY = os.urandom(3_000_001)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "whole" in self.path:
            return self._tell_whole()
        start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        body = BODY[start : end + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if "cut" in self.path:
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)
        self.server.connections.add(self.client_address)  # type: ignore[attr-defined]

    def _tell_whole(self) -> None:
        what = urlsplit(self.path).path.rpartition("-")[2]
        said = {
            "gone": (404, b"<Code>NoSuchKey</Code>"),
            "lost": (404, b"<html>nobody here</html>"),
            "slow": (503, b"<Code>SlowDown</Code>"),
        }
        status, body = said.get(what, (200, b"bytes"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (what == "cut")))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = what == "cut"

    def do_HEAD(self) -> None:
        what = urlsplit(self.path).path.rpartition("-")[2]
        self.send_response({"gone": 404, "slow": 503}.get(what, 200))
        if what == "there":
            self.send_header("ETag", '"x"')
            self.send_header("x-amz-checksum-crc32", self.headers["x-amz-checksum-mode"])
        self.send_header("Last-Modified", "never" if what == "spoilt" else "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("Content-Length", "7")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StoreSettings, Path, Any]]:
    """A server that has one object, under any name."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.connections = set()  # type: ignore[attr-defined]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"https://127.0.0.1:{server.server_address[1]}"
    yield StoreSettings("s3", address, "us-east-1", "bucket", Secret("a"), Secret("b")), certificate, server
    server.shutdown()
    server.server_close()


def test_ranges_arrive_byte_for_byte_over_one_connection(store: tuple[StoreSettings, Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, certificate, server = store
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    for offset, length in ((0, len(BODY)), (1, 16_384), (77, 1), (999, 2_000_000)):
        assert b"".join(blocks(settings, "object", offset, length)) == BODY[offset : offset + length]
    assert len(server.connections) == 1


def test_a_link_that_is_cut_gives_what_came_and_an_error(store: tuple[StoreSettings, Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, certificate, _ = store
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    came = bytearray()
    with pytest.raises(HTTPError):
        for block in blocks(settings, "cut", 0, len(BODY)):
            came += block
    assert came and BODY.startswith(came)


def test_a_server_that_is_not_trusted_is_told_nothing(store: tuple[StoreSettings, Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    other = StoreSettings("s3", store[0].endpoint, "us-east-1", "bucket", Secret("a"), Secret("c"))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(StoreError, match="certificate verify failed"), store_errors("read"):
        list(blocks(other, "object", 0, 5))


@pytest.mark.parametrize(
    ("what", "told"),
    [("there", (True, b"bytes")), ("gone", (True, None)), ("lost", (False, None)), ("slow", (False, None)), ("cut", (False, None))],
)
def test_a_small_object_is_there_or_not_by_one_plain_answer_and_else_nobody_knows(
    what: str, told: tuple[bool, bytes | None], store: tuple[StoreSettings, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(store[1]))

    assert at_once(store[0], f"whole-{what}") == told


def test_what_a_store_holds_is_told_by_one_whole_answer_and_else_nobody_knows(
    store: tuple[StoreSettings, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(store[1]))

    settled, head = head_at_once(store[0], "whole-there")
    assert settled and head is not None and (head["ContentLength"], head["ETag"], head["ChecksumCRC32"]) == (7, '"x"', "ENABLED")
    assert [head_at_once(store[0], f"whole-{what}") for what in ("gone", "slow", "spoilt", "bare")] == [(True, None), *[(False, None)] * 3]
