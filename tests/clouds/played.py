"""A cloud's API as its specification has it, played on loopback: routes that answer, and checks of what is asked and answered."""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jsonschema import Draft202012Validator

Answer = tuple[int, object]
Route = Callable[["Asked"], Answer]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; ``name`` is what the route's ``{}`` stands for."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any = None
    name: str = ""


@dataclass(slots=True)
class Specification:
    """The operations of a specification: what is asked and answered must be of their schemas."""

    document: Mapping[str, Any]
    _validators: dict[tuple[str, str], Draft202012Validator] = field(default_factory=dict)

    def wrong(self, operation: str, which: str, value: object) -> list[str]:
        """Return what is wrong with a request (``request``) or an answer (its status)."""
        known = self.document["operations"][operation]
        schema = known.get("request") if which == "request" else known["answers"].get(which)
        if schema is None:
            return []
        key = operation, which
        if key not in self._validators:
            self._validators[key] = Draft202012Validator({**schema, "$defs": self.document["$defs"]})
        return [f"{operation} {which}: {error.json_path}: {error.message}" for error in self._validators[key].iter_errors(value)]

    def operation(self, method: str, path: str) -> str | None:
        """Return the operation of a request, the most literal first."""
        fitting = [one for one in self.document["operations"] if _fits(one, method, path)]
        return min(fitting, key=lambda one: one.count("{"), default=None)


@functools.cache
def specification(folder: Path) -> Specification:
    """Return the specification beside a folder's tests."""
    return Specification(json.loads((folder / "spec.json").read_text(encoding="utf-8")))


def say(answer: Answer, asked: Asked) -> Answer:
    """Answer so, whatever is asked."""
    return answer


class PlayedApi:
    """Routes by ``METHOD /path`` with at most one ``{}``; what breaks the specification is kept in ``broken``."""

    def __init__(self, routes: Mapping[str, Route], spec: Specification, date: str | None = None) -> None:
        self.routes = dict(routes)
        self.asked: list[Asked] = []
        self.broken: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

            def answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                asked = Asked(self.command, parts.path, query, json.loads(raw) if raw and raw != b"null" else None)
                status, body = outer.play(asked, spec)
                if status == 0:  # an answer that is lost on its way
                    self.close_connection = True
                    return
                text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = do_PUT = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def play(self, asked: Asked, spec: Specification) -> Answer:
        """Answer one request, and note what the specification says against it."""
        self.asked.append(asked)
        operation = spec.operation(asked.method, asked.path)
        if operation is None:
            self.broken.append(f"no such operation: {asked.method} {asked.path}")
            return 404, {"detail": "Not Found"}
        self.broken += [f"{operation}: query {name}" for name in asked.query if name not in spec.document["operations"][operation]["query"]]
        if asked.body is not None:
            self.broken += spec.wrong(operation, "request", asked.body)
        route = min((key for key in self.routes if _fits(key, asked.method, asked.path)), key=lambda one: one.count("{"))
        name = asked.path.rstrip("/").rpartition("/")[2]
        status, body = self.routes[route](Asked(asked.method, asked.path, asked.query, asked.body, name))
        self.broken += spec.wrong(operation, str(status), body) if status == 200 else []
        return status, body

    def sent(self, method: str, path: str) -> list[Any]:
        """Return the bodies of the requests of one kind."""
        return [asked.body for asked in self.asked if asked.method == method and asked.path.endswith(path)]

    def close(self) -> None:
        """Stop answering."""
        self.server.shutdown()
        self.server.server_close()


def _fits(operation: str, method: str, path: str) -> bool:
    verb, _, pattern = operation.partition(" ")
    return verb == method and re.fullmatch(re.sub(r"\{\w*\}", "[^/]+", pattern), path) is not None
