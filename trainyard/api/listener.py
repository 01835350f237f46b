"""Who listens for the caller of the API: what a run tells becomes events, which wait until the caller takes them."""

from __future__ import annotations

import io
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.console import Console

from trainyard.runs.events import LogEvent, MessageEvent, ProgressEvent, StateEvent
from trainyard.runs.ui import as_on_terminal

TrainingEvent = StateEvent | ProgressEvent | LogEvent | MessageEvent
"""What following a run gives."""

_MOST = 10_000
"""Events that wait at most: driving a run never waits for who listens."""
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_log = logging.getLogger("trainyard")
_log.addHandler(logging.NullHandler())  # without it Python prints warnings where nobody has set logging up


class EventListener:
    """What a call tells, in order. Messages also go to the logger ``trainyard``, which prints nothing unless it is set up."""

    def __init__(self) -> None:
        self.console = Console(file=io.StringIO())  # tables are for people
        self.missed = 0
        self.leaves = False
        self._events: deque[TrainingEvent] = deque()
        self._changed = threading.Condition()
        self._over = False

    def take(self) -> TrainingEvent | None:
        """Wait for the next event and return it, None when there are no more."""
        with self._changed:
            while not (self._events or self._over):
                self._changed.wait()
            return self._events.popleft() if self._events else None

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def leave(self) -> None:
        """Say that the caller wants to go: a run is left where that does it no harm."""
        self.leaves = True

    def say(self, text: str) -> None:
        """Hand a line on."""
        self._message("info", text)

    def warn(self, text: str) -> None:
        """Hand a warning on."""
        self._message("warning", text)

    def fail(self, text: str) -> None:
        """Hand on what went wrong."""
        self._message("error", text)

    def agreed(self, question: str) -> bool:
        """There is nobody to ask."""
        return False

    def answer_to(self, question: str) -> str:
        """There is nobody to ask."""
        return ""

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Hand on that a stage begins."""
        self.say(f"{name:<10} {what}")
        yield

    def engine_event(self, event: object) -> None:
        """Hand on what a provider warns of."""
        if isinstance(event, dict) and event.get("event") == "diagnostic" and event.get("severity") == "warning":
            self.warn(str(event.get("message")))

    def state(self, event: StateEvent) -> None:
        """Hand on what has happened to an attempt."""
        self._put(event)

    @contextmanager
    def progress(self) -> Iterator[Callable[[ProgressEvent], None]]:
        """Hand figures on as they come."""
        yield self._put

    def log(self, lines: Sequence[bytes], *, shown: bool) -> None:
        """Hand the log on, line by line; of a flood only what a caller could still take."""
        self.missed += max(0, len(lines) - _MOST)
        for line in lines[-_MOST:]:
            self._put(LogEvent(as_on_terminal(line)))

    def _message(self, level: Literal["info", "warning", "error"], text: str) -> None:
        _log.log(_LEVELS[level], "%s", text)
        self._put(MessageEvent(level, text))

    def _put(self, event: TrainingEvent) -> None:
        with self._changed:
            if len(self._events) >= _MOST:
                self._events.popleft()
                self.missed += 1
            self._events.append(event)
            self._changed.notify()
