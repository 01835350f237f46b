"""The least time between two requests of one kind, where a cloud limits each of its endpoints by itself."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Intervals:
    """Seconds by kind: a regular expression for the beginning of ``METHOD /path``; the first that fits counts."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, request: str, now: Callable[[], float], sleep: Callable[[float], None]) -> float:
        """Wait until a request may be sent; return its kind's interval, 0 where it has none."""
        kind = next((pattern for pattern in self.seconds if re.match(pattern, request)), None)
        if kind is None:
            return 0.0
        with self._lock:
            moment = now()
            due = max(moment, self._next.get(kind, moment))
            self._next[kind] = due + self.seconds[kind]
        if due > moment:
            sleep(due - moment)
        return self.seconds[kind]
