"""A program of one's own that lies on the web: fetched here, once, and only as the bytes that a person has named by their sha256."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote

from trainyard.errors import UserError
from trainyard.files import write_atomic
from trainyard.network import web_address

LARGEST = 10_000_000
"""Bytes: what is larger is no script, and travels as code or data."""
_PATIENCE = 30.0
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def is_web(value: object) -> bool:
    """Tell whether a value names a program on the web."""
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def fetch_script(name: str, reference: str) -> Path:
    """Return where the program behind ``https://host/path#sha256=HEX`` lies on this machine now.

    Raises UserError for a reference without a hash (saying which one it has now) and for other bytes than it names.
    """
    url, _, fragment = reference.partition("#")
    parts = web_address(name, url)
    last = unquote(parts.path).rpartition("/")[2]
    digest = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
    file = last if _NAME.fullmatch(last) and last.strip(".") else "script"
    if digest is not None and (path := _place(digest[1]) / file).is_file():
        return path
    shown = f"{parts.scheme}://{parts.netloc}{parts.path}"
    body = _get(name, url, shown)
    actual = hashlib.sha256(body).hexdigest()
    if digest is None:
        hint = f"Read it, and if it is the one that you mean: {name}={shown}#sha256={actual}"
        raise UserError(f"{name}: {shown} can be another program tomorrow: say by its sha256 which one is meant", hint=hint)
    if actual != digest[1]:
        hint = f"Somebody has changed it. Read it, and if you mean what it is now: {name}={shown}#sha256={actual}"
        raise UserError(f"{name}: {shown} is not the program that was named: its sha256 is {actual}; nothing was run or rented", hint=hint)
    path = _place(actual) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, body, durable=False)
    return path


def _get(name: str, url: str, shown: str) -> bytes:
    import httpx  # a tenth of a second that no other script needs

    body = b""
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=_PATIENCE) as answer:
            if answer.status_code != 200:
                raise UserError(f"{name}: the server of {shown} answered {answer.status_code}")
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > LARGEST:
                    raise UserError(f"{name}: {shown} is larger than {LARGEST // 1_000_000} MB, so it is no script")
    except httpx.HTTPError as error:
        raise UserError(f"{name}: the server of {shown} does not answer: {error}") from None
    return body


def _place(digest: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "trainyard" / "scripts" / digest
