"""The passphrase that encrypts Pulumi's secrets: the user's own, else one made once for this person."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from trainyard.config import Places
from trainyard.errors import UserError
from trainyard.textfile import expanded


def passphrase_file(places: Places, env: Mapping[str, str]) -> Path | None:
    """Return the file that holds the passphrase, made when neither variable is set; None when it is given as a text."""
    if "PULUMI_CONFIG_PASSPHRASE" in env:
        return None
    named = env.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if named:
        return expanded(named).resolve()
    path = places.settings / "passphrase"
    if not path.exists():
        _make_once(path)
    return path


def passphrase(places: Places, env: Mapping[str, str]) -> str:
    """Return the passphrase itself; raises UserError when its file cannot be read."""
    if "PULUMI_CONFIG_PASSPHRASE" in env:
        return env["PULUMI_CONFIG_PASSPHRASE"]
    path = passphrase_file(places, env)
    assert path is not None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(f"{path}: the passphrase of Pulumi's secrets cannot be read: {error.strerror}") from None


def _make_once(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(secrets.token_urlsafe(32) + "\n")
        out.flush()
        os.fsync(out.fileno())
    try:
        # link() fails where another process was first: both then read the same passphrase.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
