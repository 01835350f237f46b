"""A transport that connects when it is needed, and again after a link was lost.

It never repeats a command that was sent: only its caller knows whether that is safe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from trainyard.errors import Unreachable
from trainyard.remote.frame import EndUntold
from trainyard.remote.protocol import CommandResult, NoAnswer, NotSent, OnBytes, SharedInput, Stdin, Transport


class Reconnecting:
    """A transport made by ``dial`` on first use and after each loss. Safe to call from several threads."""

    def __init__(self, dial: Callable[[], Transport], name: str = "the pod") -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._current: Transport | None = None
        self._closed = False
        self.name = name

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        """Run a command on the present connection (made now if there is none or it was lost meanwhile); see Transport."""
        for again in (True, False):
            transport = self._connected()
            try:
                return transport.exec(command, stdin, timeout=timeout, on_stdout=on_stdout, on_stderr=on_stderr)
            except (NoAnswer, EndUntold):
                raise
            except Unreachable as error:
                if isinstance(error, NotSent) and isinstance(stdin, SharedInput):
                    raise
                self._drop(transport)
                if not (again and isinstance(error, NotSent)):
                    raise
        raise AssertionError

    def reset(self) -> None:
        """Give the present connection up; the next command makes another."""
        with self._lock:
            current, self._current = self._current, None
        if current:
            current.close()

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
