"""The Pulumi CLI and its command plugin, where this machine has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

MINIMUM = (3, 250, 0)
COMMAND_PLUGIN = "1.2.1"


def find(env: Mapping[str, str], root: Path) -> Path | None:
    """Return a fitting ``pulumi``: on PATH or in the checkout's .venv, at least the pinned minimum version."""
    search = f"{root / '.venv' / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    found = shutil.which("pulumi", path=search)
    if found is None or shutil.which("pulumi-language-python", path=f"{Path(found).parent}{os.pathsep}{search}") is None:
        return None
    return Path(found) if version(Path(found)) >= MINIMUM else None


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
