"""What a look-up of a base asks of the Hugging Face Hub, over real HTTP: its models, who may see them, its marks of a refusal."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN, STRANGER = "hf_known", "hf_no_access"


@dataclass
class Model:
    """A repository."""

    config: dict[str, Any] | None
    gated: bool = False
    private: bool = False
    files: tuple[str, ...] = ("config.json", "model.safetensors")
    more: dict[str, Any] = field(default_factory=dict)


class Hub(ThreadingHTTPServer):
    """The server, and what it holds."""

    def __init__(self, models: dict[str, Model]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.broken, self.seen = models, 0, list[str]()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        if self.server.broken:
            return self._say(self.server.broken, b"")
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        if token not in ("", TOKEN, STRANGER):
            return self._say(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        is_api = self.path.startswith("/api/models/")
        name, _, rest = self.path.removeprefix("/api/models/").removeprefix("/").partition("/resolve/")
        model = self.server.models.get(name)
        if model is None or (model.private and token != TOKEN):
            return self._say(404 if token else 401, b"", {"X-Error-Code": "RepoNotFound"})
        if is_api:
            siblings = [{"rfilename": one} for one in model.files]
            info = {"id": name, "sha": "a" * 40, "gated": "auto" if model.gated else False, "private": model.private, "siblings": siblings}
            return self._say(200, json.dumps(info | model.more).encode())
        if model.gated and token != TOKEN:
            return self._say(403 if token else 401, b"", {"X-Error-Code": "GatedRepo"})
        if model.config is None or rest != "a" * 40 + "/config.json":
            return self._say(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self._say(200, json.dumps(model.config).encode())

    def _say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
