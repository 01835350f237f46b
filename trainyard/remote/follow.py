"""Follow files of a job over a link that may break: every byte once, in order, and the true end.

Each file is read by ``tail`` on a channel of its own; after a loss the next one starts at the byte that
comes next. The end of a stream means nothing: only the job's verdict ends the following, and then what is
left of each file is read once more.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainyard.errors import HostKeyChanged, Unreachable
from trainyard.remote import jobs
from trainyard.remote.jobs import JobStatus
from trainyard.remote.protocol import OnBytes, Transport, with_values
from trainyard.retries import LINK
from trainyard.shellscript import load

_QUEUE = 256
_TICK = 0.5


@dataclass(slots=True)
class Tail:
    """A file to follow; ``offset`` is where reading goes on and grows as ``sink`` takes the bytes."""

    path: str
    sink: OnBytes
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    tail: Tail
    data: bytes


@dataclass(frozen=True, slots=True)
class _Link:
    """The link went (why) or came back (None)."""

    lost: str | None


@dataclass(frozen=True, slots=True)
class _End:
    status: JobStatus | None
    error: BaseException | None = None


def follow(
    t: Transport, job_dir: str, tails: Sequence[Tail], *,
    patience: float | None = None, tick: Callable[[], None] | None = None, on_link: Callable[[str | None], None] | None = None,
) -> JobStatus:  # fmt: skip
    """Give each file's bytes to its sink until the job has its verdict and all is read; return the verdict.

    ``t`` should be a Reconnecting one. Sinks, ``tick`` (about twice a second) and ``on_link`` (a reason when
    the link is lost, None when it is back) run in the caller's thread; an exception of theirs, or Ctrl-C,
    ends the following and leaves the job alone. Close ``t`` afterwards to end the readers at once.

    The verdict is exited, lost or absent (its folder has vanished): never unknown, which is waited out like a lost
    link. Raises Unreachable after ``patience`` seconds without link (None: never), HostKeyChanged at once.
    """
    events: queue.Queue[_Piece | _Link | _End] = queue.Queue(_QUEUE)
    stopped = threading.Event()
    readers = [_Reader(t, job_dir, tail, events, stopped, patience) for tail in tails]
    threads = [threading.Thread(target=reader.run, daemon=True, name=f"follow {reader.tail.path}") for reader in readers]
    for thread in threads:
        thread.start()
    try:
        return _deliver(events, threads, tick, on_link)
    finally:
        stopped.set()


def _deliver(
    events: queue.Queue[_Piece | _Link | _End], threads: Sequence[threading.Thread],
    tick: Callable[[], None] | None, on_link: Callable[[str | None], None] | None,
) -> JobStatus:  # fmt: skip
    ticked, down, last, open_ = time.monotonic(), False, JobStatus("absent"), len(threads)
    while open_:
        living = sum(thread.is_alive() for thread in threads)
        try:
            event = events.get(timeout=_TICK)
        except queue.Empty:
            event = None
            if living < open_:
                # Not even its first line ran (no memory, say): nobody would ever tell how the job ended.
                raise RuntimeError("a thread that reads the job's files has died without a word") from None
        if isinstance(event, _Piece):
            event.tail.sink(event.data)
            event.tail.offset += len(event.data)
        elif isinstance(event, _Link) and on_link and (event.lost is not None) != down:
            down = event.lost is not None
            on_link(event.lost)
        elif isinstance(event, _End):
            if event.error:
                raise event.error
            open_, last = open_ - 1, event.status or last
        if tick and time.monotonic() - ticked >= _TICK:
            ticked = time.monotonic()
            tick()
    return last


class _Reader:
    """One file's thread."""

    def __init__(
        self, t: Transport, job_dir: str, tail: Tail,
        events: queue.Queue[_Piece | _Link | _End], stopped: threading.Event, patience: float | None,
    ) -> None:  # fmt: skip
        self._t, self._job_dir, self.tail = t, job_dir, tail
        self._events, self._stopped, self._patience = events, stopped, patience
        self._next = tail.offset
        self._lost_since: float | None = None
        self._losses = 0

    def run(self) -> None:
        """Read until the verdict; every way out puts an _End into the queue."""
        with contextlib.suppress(_Stopped):
            try:
                status = None
                while status is None:
                    status = self._once()
                self._put(_End(status))
            except _Stopped:
                raise
            except BaseException as error:
                self._put(_End(None, error))

    def _once(self) -> JobStatus | None:
        """Read over one connection; return the verdict once all is read."""
        try:
            begun = self._next
            if self._stopped.is_set():
                raise _Stopped
            if self._losses:
                self._status()
            self._read("tail")
            status = self._status()
            if status.state == "running":
                # tail came back early: the job has just begun, or only its supervisor was killed.
                self._stopped.wait(0.2 if begun == self._next else 0.0)
                return None
            self._read("rest")
            return status
        except HostKeyChanged:
            raise
        except Unreachable as error:
            self._lost(error)
            return None

    def _status(self) -> JobStatus:
        """Ask for the job's state; one that cannot be read is waited out like a lost link."""
        status = jobs.status(self._t, self._job_dir)
        if status.state == "unknown":
            raise Unreachable(f"{self._t.name}: the state of the job is {jobs.verdict(status)}")
        self._link_is_up()
        return status

    def _read(self, program: str) -> None:
        values = {"job": self._job_dir, "path": self.tail.path, "first": self._next + 1}
        self._t.exec(with_values(load(__package__, program), **values), on_stdout=self._take)

    def _take(self, data: bytes) -> None:
        self._link_is_up()
        self._next += len(data)
        self._put(_Piece(self.tail, data))

    def _link_is_up(self) -> None:
        if self._lost_since is not None:
            self._lost_since, self._losses = None, 0
            self._put(_Link(None))

    def _lost(self, error: Unreachable) -> None:
        now = time.monotonic()
        self._lost_since = now if self._lost_since is None else self._lost_since
        if self._patience is not None and now - self._lost_since > self._patience:
            raise error
        self._put(_Link(error.message))
        self._stopped.wait(LINK.pause(self._losses + 1))
        self._losses += 1

    def _put(self, event: _Piece | _Link | _End) -> None:
        while not self._stopped.is_set():
            try:
                return self._events.put(event, timeout=0.5)
            except queue.Full:
                continue
        raise _Stopped


class _Stopped(Exception):
    """The caller follows no longer."""
