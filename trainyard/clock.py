"""What time it is, how to wait, and how a moment is written in records."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is (epoch seconds), and how to wait; tests pass their own."""

    now: Callable[[], float] = time.time
    pause: Callable[[float], None] = time.sleep


REAL = Clock()


def iso(moment: float | None) -> str | None:
    """Return epoch seconds as ``2026-11-24T03:00:00Z``, None for none."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) if moment is not None else None
