"""Say what is being done, run commands that may take long, and turn their failures into errors a person can act on.

Standard library only: this runs before any package is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import TrainyardError
from trainyard.phrasing import as_typed

SETUP_VERBS = ("setup", "train")
"""Verbs that messages of the set-up name; the whole list is known once packages are there."""
OnLine = Callable[[str], None]

FAILED = 1
WRONG_MACHINE = 2
INCOMPLETE = 3
"""Exit code of the tools' half only: something optional is missing and was named."""
NO_NETWORK = 69
NO_SPACE = 74

NETWORK_HINT = (
    "Check the connection. Behind a proxy set HTTPS_PROXY; a package index of your own is taken from pip's settings "
    "(PIP_INDEX_URL, pip.conf). Then say it again: it goes on where it stopped."
)
SPACE_HINT = "Free about 1 GB here and in ~/.cache (or point XDG_CACHE_HOME elsewhere), then say it again."

_SPACE = re.compile(r"No space left on device|os error 28|Disk quota exceeded|os error 122|ENOSPC", re.I)
_NETWORK = re.compile(
    "|".join(
        (
            r"dns error|failed to lookup address|Temporary failure (?:in name resolution|resolving)|Name or service not known",
            r"no such host|Could not resolve host|nodename nor servname|Network is unreachable|No route to host",
            r"Connection refused|Connection reset|dial tcp|tcp connect error|client error \(Connect\)|error sending request",
            r"operation timed out|connection timed out|i/o timeout|Read timed out",
            r"NewConnectionError|ConnectTimeoutError|urlopen error|Proxy(?:Error| CONNECT)",
        )
    ),
    re.I,
)


class SetupError(TrainyardError):
    """Set-up cannot go on: ``exit_code`` tells a full disk (74) and a missing network (69) from the rest."""

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = FAILED) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """A command that ended; ``rc`` is None when it was ended at its time limit."""

    rc: int | None
    output: str


def say(line: str) -> None:
    """Print one line of progress (on stderr, so that ``--json`` of a verb stays clean on stdout)."""
    print(as_typed(line), file=sys.stderr, flush=True)


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end us as Ctrl-C does: with everything that we started."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)


def run(
    command: Sequence[str | Path],
    doing: str,
    *,
    on_line: OnLine = say,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    limit: float | None = None,
    every: float = 15.0,
    keep: Sequence[int] = (),
) -> CommandEnd:
    """Run a command without input in a process group of its own, saying every so often how long ``doing`` has taken.

    At ``limit`` seconds the whole group is ended. ``keep`` are descriptors that it inherits: a lock handed on
    like that is held until the last writer is gone, also when this process is killed.
    """
    begun = time.monotonic()
    child = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        cwd=cwd,
        start_new_session=True,
        pass_fds=tuple(keep),
    )
    chunks: list[bytes] = []
    reader = threading.Thread(target=_collect, args=(child, chunks), daemon=True)
    reader.start()
    try:
        rc = _wait(child, lambda spent: on_line(f"  {doing}: {spent:.0f} s so far"), begun, limit, every)
    finally:
        if child.poll() is None:
            _end_group(child)
    reader.join(2.0)
    return CommandEnd(rc, b"".join(chunks).decode("utf-8", "replace"))


def failure(done: CommandEnd, what: str, *, network: str = NETWORK_HINT, space: str = SPACE_HINT) -> SetupError:
    """Return the error for a command that failed: disk full and no network are told by name, the rest by its last lines."""
    said = [line.strip() for line in done.output.strip().splitlines()]
    tail = "\n".join("  " + line[:200] for line in said[-6:])
    if _SPACE.search(done.output):
        return SetupError(f"{what}: the disk is full", hint=space, exit_code=NO_SPACE)
    if done.rc is None or _NETWORK.search(done.output):
        reason = next((line for line in reversed(said) if _NETWORK.search(line)), "no answer within the time limit")
        # pip names the cause at the end of a long line.
        return SetupError(f"{what}: the network cannot be reached\n  {reason[-200:]}", hint=network, exit_code=NO_NETWORK)
    return SetupError(f"{what}: exit {done.rc}\n{tail}".rstrip())


def os_failure(error: OSError, what: str, *, space: str = SPACE_HINT) -> SetupError:
    """Return the error for a file operation of our own that failed."""
    full = error.errno is not None and os.strerror(error.errno) in (os.strerror(28), os.strerror(122))
    if full:
        return SetupError(f"{what}: the disk is full", hint=space, exit_code=NO_SPACE)
    place = f"{error.filename}: " if error.filename else ""
    return SetupError(f"{what}: {place}{error.strerror or error}", exit_code=WRONG_MACHINE)


def _collect(child: subprocess.Popen[bytes], chunks: list[bytes]) -> None:
    assert child.stdout is not None
    with child.stdout as pipe:
        for chunk in iter(lambda: os.read(pipe.fileno(), 65536), b""):
            chunks.append(chunk)


def _wait(child: subprocess.Popen[bytes], tell: Callable[[float], None], begun: float, limit: float | None, every: float) -> int | None:
    due = begun + every
    while True:
        now = time.monotonic()
        until = due if limit is None else min(due, begun + limit)
        try:
            return child.wait(max(0.0, until - now))
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if limit is not None and now >= begun + limit:
                return None
            tell(now - begun)
            due = now + every


def _end_group(child: subprocess.Popen[bytes]) -> None:
    # The leader is not reaped yet, so its number cannot belong to another group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
