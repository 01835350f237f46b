"""The environment's id: 8 hex characters that name its default bucket, made once per stack and user.

Kept outside the checkout, so that a fresh clone finds the same bucket again. It names nothing else.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from trainyard import yamlfile
from trainyard.config import Places
from trainyard.errors import UserError
from trainyard.filelock import hold_lock
from trainyard.files import write_atomic

_ID = re.compile(r"^[0-9a-f]{8}$")


def default_bucket(env_id: str) -> str:
    """Return the bucket's name; raises UserError for an impossible id."""
    if not _ID.match(env_id):
        raise UserError(f"env_id: '{env_id}' must be 8 hex characters (0-9, a-f)")
    return f"trainyard-{env_id}"


def environment_id(places: Places, stack: str) -> str:
    """Return the id of a stack's environment, made under a lock when there is none yet."""
    path = places.settings / "environments.yaml"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with hold_lock(path.with_suffix(".lock")):
        return _known_or_new(path, stack)


def known_environment_id(places: Places, stack: str) -> str | None:
    """Return the id that was made for a stack by this user, None when there is none."""
    path = places.settings / "environments.yaml"
    return _find_id(path, yamlfile.load_map(path), stack) if path.is_file() else None


def _known_or_new(path: Path, stack: str) -> str:
    known = dict(yamlfile.load_map(path)) if path.is_file() else {}
    env_id = _find_id(path, known, stack)
    if env_id is not None:
        return env_id
    known[stack] = secrets.token_hex(4)
    write_atomic(path, yamlfile.dump(known), durable=True)
    return str(known[stack])


def _find_id(path: Path, known: Mapping[str, yamlfile.Node], stack: str) -> str | None:
    entry = known.get(stack)
    # A person may have written eight digits without quotes: a number to YAML.
    if entry is not None and not _ID.match(str(entry)):
        raise UserError(f"{path}: '{entry}' is no environment id (8 hex characters)")
    return None if entry is None else str(entry)
