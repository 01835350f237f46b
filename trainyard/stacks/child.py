"""Run one engine as a child process: own session, lines as they come, a Ctrl-C that asks before it kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

# Pulumi's own rule, which the built-in engine shares: the first signal stops new steps and awaits
# the running ones, so that a pod in creation is recorded.
_GRACE_SIGNAL = signal.SIGINT


def run_child(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, on_line: Callable[[str], None], log: Path) -> tuple[int, str]:
    """Run the command and hand on each line of its stdout; return (exit code, tail of its stderr).

    The child has a session of its own, so a Ctrl-C in the terminal reaches only us: it is passed on
    once, the child's running steps are awaited, then KeyboardInterrupt is raised. All output is kept in ``log``.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=20)
    with log.open("ab", buffering=0) as kept:
        child = subprocess.Popen(
            list(argv),
            cwd=cwd,
            # Says who asked: nothing is rented for a command that was killed meanwhile (provider/world.py).
            env={**env, "TRAINYARD_CONTROLLER": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdout is not None and child.stderr is not None
        drain = threading.Thread(target=_drain, args=(child.stderr, tail, kept), daemon=True)
        drain.start()
        interrupted = False
        while True:
            try:
                raw = child.stdout.readline()
                if not raw:
                    code = child.wait()
                    break
                _keep(kept, raw)
                on_line(raw.decode("utf-8", "replace").rstrip("\n"))
            except KeyboardInterrupt:
                if interrupted:
                    _signal(child.pid, signal.SIGTERM)
                    raise
                interrupted = True
                _signal(child.pid, _GRACE_SIGNAL)
        child.stdout.close()
        drain.join(timeout=2)
    if interrupted:
        raise KeyboardInterrupt
    return code, "".join(tail).strip()


def _drain(stream: IO[bytes], tail: deque[str], kept: IO[bytes]) -> None:
    for raw in stream:
        _keep(kept, raw)
        tail.append(raw.decode("utf-8", "replace"))
    stream.close()


def _keep(log: IO[bytes], raw: bytes) -> None:
    with contextlib.suppress(OSError):  # a full disk costs us the log, never the operation
        log.write(raw)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
