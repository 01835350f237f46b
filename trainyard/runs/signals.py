"""SIGTERM and SIGHUP end a controller as Ctrl-C does: in words, with what stays."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

LEAVE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT = 130
_OWN_WORDS = 0.5
"""Seconds for whoever is at work to leave by itself, and in its own words, before anything is said or done here."""


class LeaveSignal(KeyboardInterrupt):
    """Somebody wants this controller to go: what a KeyboardInterrupt means, whichever signal it was."""


class NothingRented(KeyboardInterrupt):
    """Somebody has left before anything was rented; its text is what a person reads."""


@contextmanager
def handled(numbers: Iterable[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let a handler take these signals in here; afterwards who took them before takes them again.

    Another thread than the main one gets no signal, and may install nothing: there it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def leaving() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise LeaveSignal in here; one that the caller's caller ignores (nohup) stays ignored."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise LeaveSignal(signal.Signals(number).name)

    ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    with handled(ours, leave):
        yield


@dataclass(slots=True)
class Departure:
    """Whether somebody wants this process to go, and that it goes in time whatever it is doing."""

    within: float
    say: Callable[[str], object]
    last_words: Callable[[str], str]
    exit: Callable[[int], object]
    asked: str = ""
    """The first signal that came; '' before."""
    _over: bool = False
    _mute: threading.Timer | None = None
    _ends: tuple[int, int] = field(default_factory=os.pipe)

    def leave_if_asked(self) -> None:
        """Raise LeaveSignal where a signal has come that something shielded has not let through."""
        if self.asked:
            raise LeaveSignal(self.asked)

    def watch(self) -> None:
        """Count the seconds from the first signal on: some words, then the end; a second signal is the end at once."""
        times = list[float]()
        while not self._over:
            pause = max(0.0, times[0] - time.monotonic()) if times else None
            if select.select([self._ends[0]], [], [], pause)[0]:
                for number in os.read(self._ends[0], 64):
                    times = self._took(number, times)
            elif len(times) == 2:
                self.say(f"{self.asked}: leaving within {self.within:g} s, whatever the cloud does; once more: at once")
                times = times[1:]
            else:
                self.say(self.last_words(self.asked))
                self.exit(_EXIT)
                return

    def _took(self, number: int, times: list[float]) -> list[float]:
        """Take in a signal; return when to speak, and when to go."""
        if number not in LEAVE:
            return times
        if self.asked:
            return [time.monotonic() + _OWN_WORDS]
        self.asked = signal.Signals(number).name
        self._mute = threading.Timer(self.within + 1, self.exit, (_EXIT,))  # who reads our words may have stopped reading
        self._mute.daemon = True
        self._mute.start()
        return [time.monotonic() + _OWN_WORDS, time.monotonic() + self.within]

    def begin(self) -> threading.Thread:
        """Let each signal be told to the thread that is returned, whichever handler it has and wherever the main thread stands."""
        os.set_blocking(self._ends[1], False)
        signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        thread = threading.Thread(target=self.watch, name="departure", daemon=True)
        thread.start()
        return thread

    def end(self, thread: threading.Thread) -> None:
        """Count no longer."""
        self._over = True
        os.write(self._ends[1], b"\0")
        signal.set_wakeup_fd(-1)
        thread.join()
        if self._mute is not None:
            self._mute.cancel()
        for end in self._ends:
            os.close(end)


_departures = list[Departure]()


@contextmanager
def departing(
    within: float, say: Callable[[str], object], last_words: Callable[[str], str], exit_now: Callable[[int], object] = os._exit
) -> Iterator[Departure]:
    """See to it that a signal ends the process within some seconds, and a second one at once, whatever is under way in here.

    The signal does to what runs what it does elsewhere (leaving(), a shield), so that most of it ends in order; what does not
    is left as a kill would leave it, with ``last_words`` of the signal's name. In another thread than the main one it does nothing.
    """
    departure = Departure(within, say, last_words, exit_now)
    if threading.current_thread() is not threading.main_thread() or _departures:
        yield departure
        return
    _departures.append(departure)
    thread = departure.begin()
    try:
        yield departure
    finally:
        departure.end(thread)
        _departures.remove(departure)


def departs_in_time() -> bool:
    """Tell whether a signal ends this process soon, whatever shields itself from it."""
    return bool(_departures)


def leave_if_asked(leaves: bool) -> None:
    """Leave as by a signal where whoever listens wants to go (``Listener.leaves``): a thread gets none."""
    if leaves:
        raise LeaveSignal("its caller")


def how(left: KeyboardInterrupt) -> str:
    """Return how somebody left, as a person reads it."""
    return str(left) if isinstance(left, LeaveSignal) else "Ctrl-C"
