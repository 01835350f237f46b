"""The door to paramiko, which brings Invoke for "Match exec" in an ssh_config, and by it asyncio, ssl and unittest: 40 of 100 ms."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace


def _run(line: str, **_: object) -> SimpleNamespace:
    """Run what "Match exec" says, as Invoke would; our own input is none of its business."""
    done = subprocess.run(["/bin/sh", "-c", line], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    return SimpleNamespace(ok=done.returncode == 0)


_runs = ModuleType("invoke")
vars(_runs)["run"] = _run
_loaded = sys.modules.get("invoke")
sys.modules["invoke"] = _runs
try:
    import paramiko
    import paramiko.config
finally:
    del sys.modules["invoke"]
    if _loaded is not None:
        sys.modules["invoke"] = _loaded
paramiko.config.invoke = _runs

__all__ = ["paramiko"]
