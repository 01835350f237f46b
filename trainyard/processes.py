"""Which process is it really: what tells one from a later one with the same number, also after a restart of the machine.

Two files of /proc, because what is written down must be true later: psutil's create_time() moves with the clock of
the machine, and it does not tell the boot.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from trainyard.retries import PROCESS

_TIE = """\
import ctypes, os, sys
try:
    ctypes.CDLL(None).prctl(1, 9)
except AttributeError:
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(137)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""PR_SET_PDEATHSIG, which the next program keeps; who starts it may be gone before that is said."""


def boot_id() -> str:
    """Return what changes with every start of this machine; an empty text where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_apart(words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> IO[bytes]:
    """Start a process that nobody waits for, in a session of its own, and return the pipe to its stdin.

    It outlives this one, and no zombie of it is left. What it prints is dropped.
    """
    starter = subprocess.Popen(
        ["sh", "-c", 'exec 3<&0; "$@" <&3 >/dev/null 2>&1 3<&- &', "sh", *words],
        stdin=subprocess.PIPE, start_new_session=True, cwd=cwd, env=env,
    )  # fmt: skip
    assert starter.stdin is not None
    pipe = starter.stdin
    starter.wait()
    return pipe


def tied(words: Sequence[str]) -> list[str]:
    """Return a command that is killed when the thread of this process that starts it is gone, by whatever kill; on Linux."""
    return [sys.executable, "-S", "-c", _TIE, str(os.getpid()), *words]


def start_mark(pid: int) -> str | None:
    """Return what tells this process from a later one with the same pid; None when it is gone or a zombie."""
    try:
        state, began = _stat(pid)
    except FileNotFoundError:
        return _start_mark_by_ps(pid) if not Path("/proc/self").exists() else None
    except OSError:
        return None
    return None if state in "ZX" else f"{began}/{boot_id()}"


def is_alive(pid: int) -> bool:
    """Tell whether a process of that number runs; True where that cannot be seen."""
    try:
        os.kill(pid, 0)
        return _stat(pid)[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's process, or a system without /proc


def end_process(pid: int, mark: str, grace: float) -> None:
    """End exactly this process: SIGTERM, after ``grace`` seconds SIGKILL; returns when it is gone."""
    for sig, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        if start_mark(pid) != mark:
            return
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return
        if wait_until_gone(pid, mark, wait):
            return


def wait_until_gone(pid: int, mark: str, seconds: float) -> bool:
    """Wait until the process is gone; False when it still lives after ``seconds``."""
    until = time.monotonic() + seconds
    pauses = PROCESS.pauses()
    while start_mark(pid) == mark:
        if time.monotonic() >= until:
            return False
        time.sleep(next(pauses))
    return True


def _stat(pid: int) -> tuple[str, str]:
    """Return state letter and start (clock ticks since boot) of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return fields[0], fields[19]


def _start_mark_by_ps(pid: int) -> str | None:
    done = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    text = done.stdout.strip()
    return None if done.returncode or not text or text.startswith("Z") else text.partition(" ")[2].strip()
