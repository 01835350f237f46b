"""The host keys that the user's known_hosts tell, looked up by ssh-keygen, which knows hashed names, patterns and marks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import UserError
from trainyard.openssh import no_ssh

_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What known_hosts say of one machine; a key is ``TYPE BASE64``."""

    keys: tuple[str, ...]
    revoked: tuple[str, ...]
    authorities: tuple[str, ...]


def known_keys(name: str, files: Sequence[Path]) -> KnownKeys:
    """Return the keys of a machine; ``name`` is ``host`` or ``[host]:port``. A file that is not there knows none."""
    marked: dict[str, list[str]] = {"": [], "@revoked": [], "@cert-authority": []}
    for path in files:
        if not path.is_file():
            continue
        for line in _lines(name, path):
            words = line.split()
            mark = words.pop(0) if words[0].startswith("@") else ""
            if len(words) >= 3 and mark in marked:
                marked[mark].append(f"{words[1]} {words[2]}")
    return KnownKeys(tuple(marked[""]), tuple(marked["@revoked"]), tuple(marked["@cert-authority"]))


def take_down(name: str, key: str, path: Path, *, hashed: bool) -> None:
    """Write a new machine's key into a known_hosts file; raises UserError when that cannot be."""
    shown = _hash(name) if hashed else name
    try:
        with _LOCK:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with open(handle, "wb") as file:
                file.write(f"{shown} {key}\n".encode())
    except OSError as error:
        raise UserError(f"{path}: the new host key of {name} cannot be written down: {error.strerror}") from None


def _lines(name: str, path: Path) -> list[str]:
    try:
        done = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", str(path)], capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False
        )
    except FileNotFoundError:
        raise no_ssh() from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{path}: ssh-keygen did not read it within 30 s") from None
    lines = done.stdout.decode(errors="replace").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _hash(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
