"""Find the SSH server that local pods use: OpenSSH where it is installed, asyncssh (a pinned package) else.

Nothing is installed: ``sshd`` belongs to the system. Standard library only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")


def find_sshd(env: Mapping[str, str]) -> Path | None:
    """Return OpenSSH's server program; ``sbin`` is searched too, since it is not on an ordinary user's PATH."""
    found = shutil.which("sshd", path=os.pathsep.join([env.get("PATH", ""), *_SBIN]))
    return Path(found) if found else None


def sentence(env: Mapping[str, str]) -> str:
    """Return one sentence about what local pods use."""
    sshd = find_sshd(env)
    if sshd is None:
        return "SSH server of local pods: asyncssh (no sshd is installed; it is not needed)."
    return f"SSH server of local pods: {sshd}."
