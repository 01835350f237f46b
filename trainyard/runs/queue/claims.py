"""Who sees to an entry at the moment: a worker's name, and whether that worker lives."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard.errors import TrainyardError
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.processes import boot_id, start_mark
from trainyard.runs.records.attempts import Overtaken

LAPSE = 300.0
"""Seconds without a heartbeat after which a worker of another machine counts as dead; clocks may differ by less."""
_BEAT = 20.0


class Withdrawn(Overtaken):
    """A person has taken an entry out that a worker had begun to see to."""


def worker_name(home: Path) -> str:
    """Return what tells this process from any other: its machine, number, and start; and its checkout, by where that keeps its records."""
    return f"{socket.gethostname()} {os.getpid()} {start_mark(os.getpid())} {_checkout(home)}"


def host_of(entry: QueueEntry) -> str:
    """Return the machine whose worker saw to an entry last."""
    return (entry.worker or "?").split(" ", 1)[0]


def is_here(entry: QueueEntry, home: Path) -> bool:
    """Tell whether a worker of this checkout saw to an entry last: what it has begun has its record here."""
    if entry.worker is None:
        return False
    host, *_, checkout = entry.worker.split(" ")
    return host == socket.gethostname() and checkout == _checkout(home)


def _checkout(home: Path) -> str:
    return hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]


def is_seen_to(entry: QueueEntry, now: float) -> bool:
    """Tell whether a living worker sees to an entry at the moment."""
    if entry.worker is None or entry.beat is None:
        return False
    host, pid, mark = entry.worker.split(" ")[:3]
    if host == socket.gethostname() and mark.rpartition("/")[2] == boot_id():  # another machine may have the same name
        return start_mark(int(pid)) == mark
    return now - entry.beat < LAPSE


@contextmanager
def beating(rows: Callable[[], QueueRows], worker: str, now: Callable[[], float]) -> Iterator[None]:
    """Say again and again that a worker lives, for as long as the block lasts."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(_BEAT):
            try:
                rows().beat(worker, now())
            except (OSError, TrainyardError):
                continue  # the next beat may get through; who reads waits much longer than one

    thread = threading.Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
