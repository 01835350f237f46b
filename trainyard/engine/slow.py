"""Calls that take long are named while they run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STILL_SECONDS = 60.0


class Slow:
    """Says every minute which calls still run: a plugin that hangs has a name. One thread watches over all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[object, tuple[float, Callable[[float], None]]] = {}
        self._watching = False

    @contextmanager
    def watched(self, say: Callable[[float], None]) -> Iterator[None]:
        """Watch over one call."""
        key = object()
        with self._lock:
            self._running[key] = (time.monotonic(), say)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                del self._running[key]

    def _watch(self) -> None:
        last_word: dict[object, int] = {}
        while True:
            time.sleep(STILL_SECONDS / 10)
            now = time.monotonic()
            with self._lock:
                running = dict(self._running)
            for key, (began, say) in running.items():
                times = int((now - began) / STILL_SECONDS)
                if times > last_word.get(key, 0):
                    last_word[key] = times
                    say(now - began)
            last_word = {key: times for key, times in last_word.items() if key in running}


SLOW = Slow()
