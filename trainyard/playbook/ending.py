"""How a run is broken off: what still runs on its hosts is ended, or named when nobody can say."""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Literal, Self, TypeVar

from trainyard.errors import PodFailed, TrainyardError
from trainyard.playbook.becoming import Becoming
from trainyard.remote.protocol import CommandResult, OnBytes, Stdin, Transport, with_values
from trainyard.remote.reconnect import Reconnecting
from trainyard.shellscript import load

Left = Literal["nothing", "ended", "running", "unknown"]
"""What of a host's commands is left: none ran, all were ended, one could not be, or the host does not say."""
PATIENCE = 6.0
"""Seconds for all hosts together to end what they run."""
_TENTHS = 20
"""Tenths of a second that processes have between SIGTERM and SIGKILL."""

In = TypeVar("In")
Out = TypeVar("Out")


class BrokenOff(KeyboardInterrupt):
    """The run is being broken off: nothing more is done on any host."""


class Terminated(KeyboardInterrupt):
    """A signal wants this process to go: what Ctrl-C means, with the exit code of that signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Terminated in here; one that is ignored (nohup) stays ignored."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    main = threading.current_thread() is threading.main_thread()
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if main and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopClock:
    """Waits between two attempts, until the run is broken off."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def sleep(self, seconds: float) -> None:
        """Wait. Raises BrokenOff as soon as the run is broken off."""
        if self._stop.wait(seconds):
            raise BrokenOff

    def stop(self) -> None:
        """Let nobody wait any longer."""
        self._stop.set()


class Endable:
    """A transport whose commands can be ended from here: each carries a nonce, by which its processes are found there."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self._running: dict[str, str] = {}
        self._stopped = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What the host is called."""
        return self.inner.name

    @name.setter
    def name(self, name: str) -> None:
        self.inner.name = name

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        """Run a command; see Transport. Raises BrokenOff when the run is broken off meanwhile."""
        first, second = secrets.token_hex(8), secrets.token_hex(8)
        with self._lock:
            if self._stopped:
                raise BrokenOff
            self._running[first] = second
        out, err = self._while_wanted(on_stdout), self._while_wanted(on_stderr)
        try:
            return self.inner.exec(f": {first}{second}; {command}", stdin, timeout=timeout, on_stdout=out, on_stderr=err)
        except TrainyardError:
            if self._stopped:
                raise BrokenOff from None
            raise
        finally:
            with self._lock:
                del self._running[first]
            if self._stopped:
                raise BrokenOff

    def _while_wanted(self, sink: OnBytes | None) -> OnBytes | None:
        """Return a sink that takes nothing more once the run is broken off: how a command ends that we end is no answer of its."""

        def take(data: bytes) -> None:
            if sink and not self._stopped:
                sink(data)

        return take if sink else None

    def end(self) -> Left:
        """Send no further command, and end those that run."""
        with self._lock:
            self._stopped = True
            running = dict(self._running)
        left: Left = "nothing"
        for first, second in running.items():
            try:
                said = self._end(first=first, second=second)
            except TrainyardError:
                said = "unknown"
            if said != "ended":
                return "running" if said == "running" else "unknown"
            left = "ended"
        return left

    def _end(self, **command: str) -> str:
        """End one command, as root where another user must do it, and return what the host says of it."""
        said = _asked(self.inner, **command, alone=0)
        for method in ("sudo", "doas") if said == "others" else ():
            with contextlib.suppress(PodFailed):  # that way is closed
                return _asked(Becoming(self.inner, "root", method), **command, alone=0)
        return _asked(self.inner, **command, alone=1) if said == "others" else said

    def reset(self) -> None:
        """Let the next command have a connection of its own: what a login is told (groups, limits) is told anew."""
        if isinstance(self.inner, Reconnecting):
            self.inner.reset()

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _asked(way: Transport, **values: object) -> str:
    return way.exec(with_values(load(__package__, "end"), **values, patience=_TENTHS), timeout=PATIENCE).text.strip()


def end_all(transports: Sequence[Endable]) -> list[Left]:
    """End what runs on all hosts at once, in PATIENCE seconds; a host that does not answer in time says nothing."""
    left: list[Left] = ["unknown"] * len(transports)

    def one(index: int) -> None:
        left[index] = transports[index].end()

    threads = [threading.Thread(target=one, args=(index,), daemon=True) for index in range(len(transports))]
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return list(left)


def side_by_side(work: Callable[[In], Out], items: Sequence[In], at_once: int, done: list[Out | None]) -> list[Out]:
    """Return what the work makes of each item, so many at once. Ctrl-C comes through at once: the threads are left behind.

    ``done`` holds what is done so far, None for what is not.
    """
    done[:] = [None] * len(items)
    wrong: list[BaseException] = []
    waiting = iter(range(len(items)))
    lock = threading.Lock()

    def worker() -> None:
        while not wrong:
            with lock:
                index = next(waiting, None)
            if index is None:
                return
            try:
                done[index] = work(items[index])
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(min(at_once, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    return done  # type: ignore[return-value]
