"""The rate limits of an emulated account, a fixed window each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trainyard.rehearsal.kit.cloud import Window


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of counting one request. ``exceeded``: the window it was too many for, ``wait`` seconds until it is not."""

    headers: dict[str, str]
    exceeded: Window | None
    wait: int


@dataclass(slots=True)
class Limits:
    """How many requests an account may make, and has made."""

    windows: Sequence[Window]
    now: Callable[[], float] = time.time
    _used: dict[str, tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, call: str) -> Taken:
        """Count a request of a kind."""
        windows, parts, exceeded, wait = [window for window in self.windows if window.call in ("", call)], [], None, 0
        with self._lock:
            for window in windows:
                number = int(self.now() // window.seconds)
                used = self._used.get(window.name, (number, 0))
                used = (number, used[1] + 1 if used[0] == number else 1)
                self._used[window.name] = used
                left, reset = max(0, window.most - used[1]), int(window.seconds - self.now() % window.seconds) + 1
                parts.append(f'"{window.name}";r={left};t={reset}')
                if used[1] > window.most:
                    exceeded, wait = window, reset
        policy = ", ".join(f'"{window.name}";q={window.most};w={window.seconds:g}' for window in windows)
        return Taken({"RateLimit": ", ".join(parts), "RateLimit-Policy": policy}, exceeded, wait)
