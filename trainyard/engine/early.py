"""Begin what takes longest before anything else is even imported: the key of the stack's secrets (0.2 to 0.4 s).

A guess, and nothing but time is lost by a wrong one: the stack's own salt decides later which key is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainyard.engine import secrets
from trainyard.engine.hook import ReadableError

_SALT = re.compile(rb'"salt"\s*:\s*"(v1:[^"]+)"')


def begin(words: Sequence[str], env: Mapping[str, str] = os.environ) -> bool:
    """Begin to derive the key of the stack that the command line names; say whether there was anything to begin."""
    stack = _stack(words)
    url = env.get("PULUMI_BACKEND_URL", "")
    if not stack or not url.startswith("file:///"):
        return False
    checkpoints = list(Path(url[len("file://") :].partition("?")[0]).glob(f".pulumi/stacks/*/{stack}.json"))
    if len(checkpoints) != 1:
        return False
    try:
        salt = _SALT.search(checkpoints[0].read_bytes())
        if salt is None:
            return False
        secrets.begin(secrets.passphrase(env), salt[1].decode())
    except (OSError, ReadableError):
        return False  # said when it is needed
    return True


def _stack(words: Sequence[str]) -> str:
    """Return the name after --stack, an empty text where none is there or it is no plain name."""
    for at, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("--stack", "-s"):
            text = (value or "".join(words[at + 1 : at + 2])).rpartition("/")[2]
            return text if re.fullmatch(r"[A-Za-z0-9_.-]+", text) else ""
    return ""
