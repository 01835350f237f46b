"""A server of Ollama's documented API on loopback: version, blobs held against their digest, create as a stream of states, show."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class OllamaContract:
    """What it has, what it was asked, and how it answers where it shall not answer as it should."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    states: list[dict[str, str]] = field(default_factory=lambda: [{"status": "parsing GGUF"}, {"status": "success"}])
    shown: dict[str, Any] = field(default_factory=dict)
    """What show says otherwise than was told."""
    no_blob: tuple[int, str] = (0, "")
    other: bool = False
    """It is no Ollama."""
    address: str = ""


@contextmanager
def contract() -> Iterator[OllamaContract]:
    """Serve it while the block lasts."""
    said = OllamaContract()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            said.asked.append(f"HEAD {self.path}")
            self.answer(200 if self.path.rpartition(":")[2] in said.blobs else 404, None)

        def do_GET(self) -> None:
            self.answer(200, {"hello": 1} if said.other else {"version": "0.17.4"})

        def do_POST(self) -> None:
            said.asked.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path.startswith("/api/blobs/"):
                self.blob(body)
            elif self.path == "/api/create":
                self.create(json.loads(body))
            else:
                model = said.models.get(json.loads(body)["model"])
                self.answer(200, model) if model else self.answer(404, {"error": "model not found"})

        def blob(self, body: bytes) -> None:
            digest = self.path.rpartition(":")[2]
            if said.no_blob[0]:
                self.answer(said.no_blob[0], {"error": said.no_blob[1]})
            elif hashlib.sha256(body).hexdigest() != digest:
                self.answer(400, {"error": "digest mismatch"})
            else:
                said.blobs[digest] = body
                self.answer(201, None)

        def create(self, wish: dict[str, Any]) -> None:
            digests = [each.removeprefix("sha256:") for each in {**wish.get("files", {}), **wish.get("adapters", {})}.values()]
            if not all(digest in said.blobs for digest in digests) or wish.get("from", "qwen3") not in {*said.models, "qwen3"}:
                self.answer(400, {"error": "invalid digest or model"})
                return
            said.created.append(wish)
            if said.states[-1:] == [{"status": "success"}]:
                stops = [f"stop                           {json.dumps(stop)}" for stop in wish.get("parameters", {}).get("stop", [])]
                model = {"template": wish.get("template", ""), "system": wish.get("system", ""), "parameters": "\n".join(stops)}
                said.models[wish["model"]] = model | said.shown
            self.send_response(200)
            self.send_header("content-type", "application/x-ndjson")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b"".join(json.dumps(state).encode() + b"\n" for state in said.states))
            self.close_connection = True

        def answer(self, code: int, body: dict[str, Any] | None) -> None:
            data = b"" if body is None else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        said.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield said
        server.shutdown()
