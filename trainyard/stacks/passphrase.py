"""The passphrase that encrypts Pulumi's secrets: the user's own, else one made once for this person."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from trainyard.config import Places
from trainyard.errors import UserError
from trainyard.files import write_new
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
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Where another process was first, both read the same passphrase.
        write_new(path, secrets.token_urlsafe(32) + "\n", durable=True, mode=0o600)
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
