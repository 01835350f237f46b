"""The Pulumi CLI and its command plugin, where this machine has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

MINIMUM = (3, 250, 0)
COMMAND_PLUGIN = "1.2.1"
OURS = Path(sys.prefix)
"""The environment that Trainyard runs in: a checkout's .venv, that of pipx, or one of the user's own."""


def find(env: Mapping[str, str], prefix: Path = OURS) -> Path | None:
    """Return a fitting ``pulumi``: in the environment that Trainyard runs in or on PATH, at least the pinned minimum version."""
    binary = any_version(env, prefix)
    if binary is None or shutil.which("pulumi-language-python", path=f"{binary.parent}{os.pathsep}{_search(env, prefix)}") is None:
        return None
    return binary if version(binary) >= MINIMUM else None


def any_version(env: Mapping[str, str], prefix: Path = OURS) -> Path | None:
    """Return the ``pulumi`` that would be started, fitting or not."""
    path = shutil.which("pulumi", path=_search(env, prefix))
    return Path(path) if path else None


def _search(env: Mapping[str, str], prefix: Path) -> str:
    return f"{prefix / 'bin'}{os.pathsep}{env.get('PATH', '')}"


def version(binary: Path) -> tuple[int, ...]:
    """Return the CLI's version, () when it does not answer."""
    try:
        done = subprocess.run(
            [binary, "version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", done.stdout.strip())
    return tuple(map(int, match.groups())) if match else ()


def has_command_plugin(env: Mapping[str, str]) -> bool:
    """Tell whether the pinned command plugin is in Pulumi's plugin cache."""
    home = Path(env.get("PULUMI_HOME") or Path.home() / ".pulumi")
    return (home / "plugins" / f"resource-command-v{COMMAND_PLUGIN}" / "pulumi-resource-command").exists()
