"""A transport that connects when it is needed, and again after a link was lost.

It never repeats a command: only its caller knows whether that is safe. What may be repeated (reading a log
from an offset, fetching the rest of a file) goes through patiently().
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Protocol, Self, TypeVar

from trainyard.errors import HostKeyChanged, Unreachable
from trainyard.remote.protocol import NoAnswer, OnBytes, Result, Stdin, Transport

T = TypeVar("T")
LONGEST_PAUSE = 15.0


class Clock(Protocol):
    """What waiting needs; tests pass their own."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class Reconnecting:
    """A transport made by ``dial`` on first use and after each loss. Safe to call from several threads."""

    def __init__(self, dial: Callable[[], Transport], name: str = "the pod") -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._current: Transport | None = None
        self._closed = False
        self.name = name

    def exec(
        self, command: str, stdin: Stdin = None, *, timeout: float | None = None, on_stdout: OnBytes | None = None
    ) -> Result:
        """Run a command on the present connection (made now if there is none); see Transport."""
        transport = self._connected()
        try:
            return transport.exec(command, stdin, timeout=timeout, on_stdout=on_stdout)
        except NoAnswer:
            raise
        except Unreachable:
            self._drop(transport)
            raise

    def close(self) -> None:
        """Close for good: what waits on it fails."""
        with self._lock:
            current, self._current, self._closed = self._current, None, True
        if current:
            current.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Transport:
        with self._lock:
            if self._closed:
                raise Unreachable(f"{self.name}: the connection was closed here")
            if self._current is None:
                self._current = self._dial()
                self.name = self._current.name
            return self._current

    def _drop(self, transport: Transport) -> None:
        with self._lock:
            if self._current is transport:
                self._current = None
        transport.close()


def patiently(
    action: Callable[[], T], *, patience: float, on_wait: Callable[[Unreachable], None] | None = None, clock: Clock = time
) -> T:
    """Repeat an action that may be repeated until the pod answers; raises the last Unreachable after ``patience`` seconds.

    A changed host key is never waited out.
    """
    deadline = clock.monotonic() + patience
    attempt = 0
    while True:
        try:
            return action()
        except HostKeyChanged:
            raise
        except Unreachable as error:
            if clock.monotonic() >= deadline:
                raise
            if on_wait:
                on_wait(error)
            clock.sleep(pause(attempt))
            attempt += 1


def pause(attempt: int) -> float:
    """Return how long to wait before the next try: growing, with jitter, at most LONGEST_PAUSE seconds."""
    return float(min(LONGEST_PAUSE, 0.25 * 2 ** min(attempt, 8)) * random.uniform(0.7, 1.0))
