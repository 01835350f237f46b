"""Find the processes of one command by walking down from it, and kill chosen ones, as a crash would.

Each command of a test starts in a session of its own and is known by its pid: nothing is ever found by a name alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.e2e import forkserver

Role = Literal["controller", "engine", "provider", "other", "store"]
Victim = Literal["controller", "engine", "provider", "all"]


@dataclass(frozen=True, slots=True)
class Process:
    """One process; ``born`` tells it from a later one with the same pid."""

    pid: int
    parent: int
    born: str
    argv: tuple[str, ...]

    @property
    def role(self) -> Role:
        """What it does in a command of ours."""
        text = " ".join(self.argv)
        if "versitygw" in text:
            return "store"
        if "trainyard.provider" in text or "pulumi-resource-trainyard" in text:
            return "provider"
        if "trainyard.engine" in text or os.path.basename(self.argv[0] if self.argv else "") == "pulumi":
            return "engine"
        return "controller" if "-m trainyard.cli.commandline" in text else "other"

    def lives(self) -> bool:
        """Tell whether this very process still runs."""
        found = read(self.pid)
        return found is not None and found.born == self.born

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to this very process."""
        if self.lives():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def read(pid: int) -> Process | None:
    """Return a process, None when it is gone or only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        argv = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] == "Z":
        return None
    return Process(pid, int(fields[1]), fields[19], tuple(argv.decode(errors="replace").split("\0")[:-1]))


def tree(pid: int) -> list[Process]:
    """Return a process and everything below it, the store's server apart."""
    root = read(pid)
    found = [] if root is None else [root]
    for process in found:
        for child in _children(process.pid):
            if child.role != "store":
                found.append(child)
    return found


def pick(processes: Iterable[Process], victim: Victim) -> list[Process]:
    """Return the processes that a crash of ``victim`` takes away, the lowest last."""
    return [p for p in processes if victim == "all" or p.role == victim]


def kill(processes: Iterable[Process]) -> None:
    """SIGKILL them all: none can do anything between the first and the last."""
    chosen = list(processes)
    if len(chosen) > 1:
        for process in chosen:
            process.kill(signal.SIGSTOP)
    for process in chosen:
        process.kill()


def wait_until_gone(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait until none of them runs; return those that still do after the time given."""
    left, until = list(processes), time.monotonic() + seconds
    while (left := [process for process in left if process.lives()]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _children(pid: int) -> list[Process]:
    found = set(forkserver.ordered_by(pid))
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found |= {int(child) for child in (task / "children").read_text().split()}
    return [process for process in map(read, sorted(found)) if process is not None]
