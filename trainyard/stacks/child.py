"""Run one engine as a child process: own session, lines as they come, a Ctrl-C that asks before it kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trainyard import problems

# Pulumi's own rule, which the built-in engine shares: the first signal stops new steps and awaits
# the running ones, so that a pod in creation is recorded.
_GRACE_SIGNAL = signal.SIGINT


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How an engine's process ended."""

    code: int
    stderr_tail: str
    problems: tuple[problems.Problem, ...]


def run_child(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, on_line: Callable[[str], None], log: Path) -> ChildExit:
    """Run the command and hand on each line of its stdout; return how it ended and what its provider wrote down.

    The child has a session of its own, so a Ctrl-C in the terminal reaches only us: it is passed on
    once, the child's running steps are awaited, then KeyboardInterrupt is raised. All output is kept in ``log``.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=20)
    with log.open("ab", buffering=0) as kept, _notebook(log) as noted:
        # Says who asked: nothing is rented for a command that was killed meanwhile (provider/world.py).
        child = _start(argv, {**env, "TRAINYARD_CONTROLLER": str(os.getpid()), problems.VARIABLE: noted}, cwd)
        try:
            code, interrupted = _follow(child, on_line, kept, tail)
        except KeyboardInterrupt:
            _signal(child.pid, signal.SIGTERM)
            raise
        noted_problems = problems.read(Path(noted))
    if interrupted:
        raise interrupted
    return ChildExit(code, "".join(tail).strip(), noted_problems)


def _follow(
    child: subprocess.Popen[bytes], on_line: Callable[[str], None], kept: IO[bytes], tail: deque[str]
) -> tuple[int, KeyboardInterrupt | None]:
    """Read all that the child prints; return its exit code and the first Ctrl-C, which was passed on. A second one is raised."""
    assert child.stdout is not None and child.stderr is not None
    drain = threading.Thread(target=_drain, args=(child.stderr, tail, kept), daemon=True)
    drain.start()
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            # The inner loop's jump back, where Python looks for signals, is inside the try: the outer one's is not.
            while raw := child.stdout.readline():
                _keep(kept, raw)
                on_line(raw.decode("utf-8", "replace").rstrip("\n"))
            code = child.wait()
            break
        except KeyboardInterrupt as left:
            if interrupted:
                raise
            interrupted = left
            _signal(child.pid, _GRACE_SIGNAL)
    child.stdout.close()
    drain.join(timeout=2)
    return code, interrupted


def _start(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    with _heeded(_GRACE_SIGNAL):
        return subprocess.Popen(list(argv), cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True)


@contextlib.contextmanager
def _heeded(number: int) -> Iterator[None]:
    """Start children that do not ignore a signal: a script's `&` has us ignore SIGINT, and an engine that did would not hear us ask."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) is not signal.SIG_IGN:
        yield
        return
    signal.signal(number, lambda *_: None)  # as good as ignored here; a new program begins with the default instead
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _notebook(log: Path) -> Iterator[str]:
    """Make the file into which providers write what failed, for as long as the engine runs."""
    try:
        handle, path = tempfile.mkstemp(prefix=f"{log.stem}.", suffix=".problems", dir=log.parent)
    except OSError:  # a full disk costs us the kinds, never the operation
        yield ""
        return
    os.close(handle)
    try:
        yield path
    finally:
        os.unlink(path)


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
