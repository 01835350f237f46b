"""SIGTERM and SIGHUP end a controller as Ctrl-C does: in words, with what stays."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


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


def leave_if_asked(leaves: bool) -> None:
    """Leave as by a signal where whoever listens wants to go (``Listener.leaves``): a thread gets none."""
    if leaves:
        raise LeaveSignal("its caller")


def how(left: KeyboardInterrupt) -> str:
    """Return how somebody left, as a person reads it."""
    return str(left) if isinstance(left, LeaveSignal) else "Ctrl-C"
