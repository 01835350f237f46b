"""One operation on one stack: what all its parts share. Steps run in the threads of the program's requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainyard.engine.events import Events, Op
from trainyard.engine.hook import EngineError
from trainyard.engine.project import Project, StackConfig
from trainyard.engine.spawn import PluginSource
from trainyard.engine.state import Resource, StackState
from trainyard.engine.values import Wire

if TYPE_CHECKING:
    from trainyard.engine.providers import Providers

Kind = Literal["preview", "up", "refresh", "destroy"]


class Stopped(Exception):
    """No new step may begin: something failed, or the user said stop. Already reported."""


@dataclass(slots=True)
class UrnHistory:
    """What has been done to which URN so far; the planner decides by it."""

    urns: set[str] = field(default_factory=set)
    operated: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    deleted_states: set[int] = field(default_factory=set)  # ids of old states, not URNs: one may have several
    renamed_from: dict[str, str] = field(default_factory=dict)  # new URN -> old URN


class Operation:
    """Shared by monitor, planner, providers and deletes."""

    def __init__(self, kind: Kind, stack: str, project: Project, settings: StackConfig, state: StackState, events: Events, wire: Wire,
                 source: PluginSource, engine_address: str, parallel: int, *, preview: bool) -> None:  # fmt: skip
        self.kind = kind
        self.preview = preview
        self.stack = stack
        self.project = project
        self.settings = settings
        self.state = state
        self.events = events
        self.wire = wire
        self.source = source
        self.engine_address = engine_address
        self.parallel = parallel
        self.seen = UrnHistory()
        self.planning = threading.RLock()
        self.slots = threading.BoundedSemaphore(parallel)
        self.olds = {old.urn: old for old in state.olds if not old.delete}
        self.registered: dict[str, Resource] = {}
        self.deletions: dict[int, threading.Event] = {}  # by id of the old state
        self.stopping = threading.Event()
        self.interrupted = False
        self.failed = False
        self.idle = threading.Condition()
        self.running = 0
        self.providers: Providers

    def fail(self, message: str, urn: str = "", *, kind: str = "") -> None:
        """Report an error, of a kind of ``errors.KINDS`` where it has one; no new step begins after it."""
        self.failed = True
        self.events.diagnostic("error", message, urn, kind=kind)
        self.stopping.set()

    def interrupt(self) -> None:
        """The user said stop: running steps end, no new one begins."""
        self.interrupted = True
        self.stopping.set()

    def check_running(self) -> None:
        """Raise Stopped when no new step may begin."""
        if self.stopping.is_set():
            raise Stopped

    @contextmanager
    def step(self, op: Op, resource: Resource, keys: list[str] | None = None) -> Iterator[None]:
        """Run one step: a free slot, events, and the count of running steps."""
        with self.slots:
            if op not in ("delete", "delete-replaced"):
                self.check_running()
            begin = time.monotonic()
            with self.idle:
                self.running += 1
            self.events.step(op, resource.urn, "start", keys=keys or [], parent=resource.parent)
            try:
                yield
                self.events.step(op, resource.urn, "done", seconds=time.monotonic() - begin, keys=keys or [], parent=resource.parent)
            except EngineError as error:
                self.events.step(op, resource.urn, "failed", seconds=time.monotonic() - begin, message=error.message)
                raise
            finally:
                with self.idle:
                    self.running -= 1
                    self.idle.notify_all()

    def is_operated(self, urn: str) -> bool:
        """Say whether the program (under this or a new name) had to do with a URN."""
        return urn in self.seen.operated or self.state.renamed.get(urn, "") in self.seen.operated
