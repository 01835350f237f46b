"""A server of Ollama, by its documented API: blobs, create, show. Only its own "success" is success."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from trainyard.errors import StoreError, UserError
from trainyard.jsontext import parse_json
from trainyard.network import proxy_for, trust

if TYPE_CHECKING:
    import httpx

DEFAULT, PORT = "http://127.0.0.1:11434", 11434
VARIABLE = "OLLAMA_HOST"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_STEP = 1 << 20
_CONNECT = 10.0
_ANSWER = 600.0
"""Seconds without a byte after which a server is given up: it hashes a large file before it says a word."""
_WORDS = 300
"""Characters of a refusal that are told."""


def address_of(host: str | None, env: Mapping[str, str]) -> str:
    """Return a server's address: as asked for, else as OLLAMA_HOST says (host, host:port or URL), else Ollama's own on this machine."""
    said = (host or env.get(VARIABLE) or DEFAULT).strip()
    wrong = UserError(f"{'--host' if host else VARIABLE} {said}: it is host, host:port or http://host:port")
    try:
        parts = urlsplit(said if "://" in said else f"http://{said}")
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not said.isascii() or not said.isprintable():
        raise wrong
    name = "127.0.0.1" if parts.hostname == "0.0.0.0" else parts.hostname  # what a server listens on is where it is found
    name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{name}:{port or (443 if parts.scheme == 'https' else PORT)}{parts.path.rstrip('/')}"


def check_tag(tag: str) -> str:
    """Return a model's name as Ollama takes it, [namespace/]name[:tag]; raises UserError for another."""
    name, _, label = tag.partition(":")
    parts = name.split("/")
    if len(parts) > 2 or not all(_PART.fullmatch(part) for part in [*parts, *([label] if ":" in tag else [])]):
        raise UserError(f"model {tag}: it is NAME:TAG, of letters, digits, '-', '_' and '.'")
    return tag


class OllamaServer:
    """One server; raises StoreError for whatever it refuses, and for what does not answer."""

    def __init__(self, address: str, env: Mapping[str, str]) -> None:
        import httpx  # a tenth of a second that no other command needs

        self.address = address
        verify = (trust(env) or True) if address.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ways: dict[str, Any] = {"trust_env": False, "verify": verify, "proxy": proxy_for(address, env)}
        self._http = httpx.Client(base_url=address, timeout=httpx.Timeout(_ANSWER, connect=_CONNECT), **ways)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def version(self) -> str:
        """Return its version: it is there, and it is Ollama."""
        said = self._said("GET", "/api/version").get("version")
        if not isinstance(said, str):
            raise StoreError(f"{self.address} answers, and not as Ollama does", hint="Name its address: --host http://HOST:11434")
        return said

    def put(self, file: Path, sha256: str) -> bool:
        """Bring a file there, once; return whether it had to be sent. The server holds it against its hash."""
        path = f"/api/blobs/sha256:{sha256}"
        with self._asked(f"ask for {file.name}"):
            there = self._http.head(path)
        if there.status_code == 200:
            return False
        if there.status_code != 404:
            raise self._refused(f"ask for {file.name}", there)
        with self._asked(f"take {file.name}"):
            answer = self._http.post(path, content=_read(file), headers={"content-length": str(file.stat().st_size)})
        if answer.status_code not in (200, 201):
            raise self._refused(f"take {file.name}", answer)
        return True

    def create(self, wish: Mapping[str, Any]) -> None:
        """Make a model of files that are there. Its states are read to the end: a stream that ends without "success" is none."""
        last = ""
        with self._asked("make the model"), self._http.stream("POST", "/api/create", json={**wish, "stream": True}) as answer:
            if answer.status_code != 200:
                answer.read()
                raise self._refused("make the model", answer)
            for line in answer.iter_lines():
                said = _object(line)
                if "error" in said:
                    raise StoreError(f"{self.address} does not make the model: {str(said['error'])[:_WORDS]}")
                last = str(said.get("status") or last)
        if last != "success":
            raise StoreError(f"{self.address} did not say that the model is made; its last word was {last or 'none'}", passing=True)

    def show(self, model: str) -> dict[str, Any] | None:
        """Return what it has as a model, None where it has none of that name."""
        with self._asked(f"show {model}"):
            answer = self._http.post("/api/show", json={"model": model})
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._refused(f"show {model}", answer)
        return _object(answer.text)

    def _said(self, method: str, path: str) -> dict[str, Any]:
        with self._asked("answer"):
            answer = self._http.request(method, path)
        return _object(answer.text) if answer.status_code == 200 else {}

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.ConnectError as error:
            hint = "Start it (ollama serve), or name another: --host http://HOST:11434"
            raise StoreError(f"no Ollama answers at {self.address} ({error})", hint=hint, passing=True) from None
        except httpx.HTTPError as error:
            raise StoreError(f"{self.address} did not {what}: {error or type(error).__name__}", passing=True) from None

    def _refused(self, what: str, answer: httpx.Response) -> StoreError:
        said = _object(answer.text).get("error") if answer.content else None
        return StoreError(f"{self.address} does not {what} (HTTP {answer.status_code}{f': {str(said)[:_WORDS]}' if said else ''})")


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while block := source.read(_STEP):
            yield block


def _object(text: str) -> dict[str, Any]:
    """Return what is said, {} for what is no object: a proxy's page, a torn line."""
    try:
        value = parse_json(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
