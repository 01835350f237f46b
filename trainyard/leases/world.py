"""What an operation on leases may touch: clock, sleep, settings, clouds, a log; and when it has to stop.

Two things end an operation early. *Cancel* (the user pressed Ctrl-C): waiting stops, what was begun is
finished and reported. *Orphaned* (whoever asked for it died): nothing new is asked of any cloud, neither a create
nor a terminate; only the request in flight is finished and written down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainyard.errors import TrainyardError
from trainyard.processes import is_alive

if TYPE_CHECKING:
    from trainyard.clouds.protocol import Cloud
    from trainyard.config import Places

CONTROLLER = "TRAINYARD_CONTROLLER"
"""Variable that names the process whose command the operation serves; without it none is looked for."""

Severity = Literal["debug", "info", "warning", "error"]


class Interrupted(TrainyardError):
    """The operation was stopped from outside before it was done; what exists is on record."""


@dataclass(frozen=True, slots=True)
class Control:
    """The two ways in which everything at work in a process is told to stop."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    orphaned: threading.Event = field(default_factory=threading.Event)
    changed: threading.Event = field(default_factory=threading.Event)
    """Set with either of the others, so that a sleeper waits on one event."""

    def cancel(self) -> None:
        """Stop waiting; finish what was begun."""
        self.cancelled.set()
        self.changed.set()

    def orphan(self) -> None:
        """Whoever asked is gone: begin nothing any more."""
        self.orphaned.set()
        self.changed.set()


@dataclass(frozen=True, slots=True)
class OperationWorld:
    """The outside as one operation sees it; tests give their own clock and cloud."""

    env: Mapping[str, str]
    places: Places
    open_cloud: Callable[[str], Cloud]
    control: Control
    log: Callable[[str, Severity], None]
    time: Callable[[], float] = time.time
    pause: Callable[[float], None] | None = None
    """Replaces waiting in tests; None waits for real."""

    def sleep(self, seconds: float) -> None:
        """Wait; raises Interrupted at once when told to stop."""
        self.go_on("waiting")
        if self.pause is not None:
            self.pause(seconds)
        else:
            self.control.changed.wait(seconds)
        self.go_on("waiting")

    def go_on(self, doing: str) -> None:
        """Raise Interrupted when cancelled or orphaned."""
        self.allowed(doing)
        if self.control.cancelled.is_set():
            raise Interrupted(f"cancelled while {doing}")

    def allowed(self, doing: str) -> None:
        """Raise Interrupted when whoever asked for it died: the next one must find things as they are."""
        if self.control.orphaned.is_set():
            raise Interrupted(f"whoever asked for it went away before {doing}")

    def asked_for(self, doing: str) -> None:
        """Raise Interrupted when the command that began this operation has died: nobody would follow what it makes.

        An operation outlives a killed command; a destroy may by then have found nothing and said so.
        """
        pid = self.env.get(CONTROLLER, "")
        if pid.isdigit() and not is_alive(int(pid)):
            raise Interrupted(f"the command that asked for it (process {pid}) ended before {doing}")

    def info(self, message: str) -> None:
        """Tell the user something."""
        self.log(message, "info")

    def warn(self, message: str) -> None:
        """Warn the user."""
        self.log(message, "warning")
