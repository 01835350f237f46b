"""Whole process trees measured: seconds, CPU seconds, peak memory; and tables of medians as Markdown."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Usage:
    """One command with everything that it started."""

    seconds: float
    cpu: float
    peak: float
    """MiB of all its processes at once, seen 50 times a second."""


def machine() -> str:
    """Say where and beside what is measured: a figure without its load says little."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, load {load:.1f}" + (
        ": not quiet, the ratios count more than the seconds" if load > 0.5 else ""
    )


def measure(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Usage:
    """Run a command to its end; exits loudly when it fails, for a failed run is no figure."""
    # Where Python may not keep bytecode, each process would compile all that it imports: that is not what users have.
    env = {key: value for key, value in env.items() if key != "PYTHONDONTWRITEBYTECODE"}
    began, peak, over = time.monotonic(), [0.0], threading.Event()
    child = subprocess.Popen(list(argv), cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def sample() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            peak[0] = max(peak[0], memory_of(child.pid))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    assert child.stdout is not None
    output = child.stdout.read()
    child.stdout.close()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    over.set()
    sampler.join()
    if child.returncode:
        sys.exit(f"{' '.join(argv)} exited {child.returncode}:\n{output.decode(errors='replace')[-3000:]}")
    return Usage(seconds, usage.ru_utime + usage.ru_stime, peak[0])


def memory_of(pid: int) -> float:
    """Return the resident MiB of a process and its descendants."""
    total, waiting = 0.0, [(pid, "")]
    while waiting:
        one, above = waiting.pop()
        try:
            sizes = Path(f"/proc/{one}/statm").read_text()
            # A child between vfork and exec runs in its parent's memory, which is not there twice.
            total += int(sizes.split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20) if sizes != above else 0.0
            for task in os.listdir(f"/proc/{one}/task"):
                waiting += [(int(child), sizes) for child in Path(f"/proc/{one}/task/{task}/children").read_text().split()]
        except (OSError, IndexError):
            continue  # it has just ended, or this kernel lists no children
    return total


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def medians(runs: Sequence[Usage]) -> Usage:
    """Return the medians of seconds and CPU, and the highest peak."""
    return Usage(statistics.median(r.seconds for r in runs), statistics.median(r.cpu for r in runs), max(r.peak for r in runs))
