"""Tell whether a process that writes all the time has ended, however slow the machine is."""

from __future__ import annotations

import time
from pathlib import Path


def is_quiet(path: Path, seconds: float = 20.0, still: float = 1.0) -> bool:
    """Tell whether a file that grew every 0.2 s stops growing for ``still`` seconds, within ``seconds``."""
    until, size, since = time.monotonic() + seconds, -1, time.monotonic()
    while time.monotonic() < until:
        seen = path.stat().st_size if path.exists() else 0
        if seen != size:
            size, since = seen, time.monotonic()
        elif time.monotonic() - since > still:
            return True
        time.sleep(0.05)
    return False
