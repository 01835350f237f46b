"""The transport to this machine: the same primitive over ``sh -c``."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from trainyard.remote.frame import Frame
from trainyard.remote.protocol import CommandResult, NoAnswer, OnBytes, Stdin

SLICE = 128 * 1024


class LocalTransport:
    """Run commands here. ``env`` replaces the environment, ``cwd`` is where commands start."""

    def __init__(self, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self.name = "localhost"
        self._env = dict(env) if env is not None else None
        self._cwd = cwd

    def exec(self, command: str, stdin: Stdin = None, *, timeout: float | None = None, on_stdout: OnBytes | None = None) -> CommandResult:
        """Run a POSIX sh command to its end; see Transport. After ``timeout`` its process group is killed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        frame = Frame(self.name, command, on_stdout)
        process = subprocess.Popen(
            frame.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self._env, cwd=self._cwd, start_new_session=True,
        )  # fmt: skip
        with process:
            assert process.stdin and process.stdout and process.stderr
            feeder = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
            feeder.start()
            try:
                _pump({process.stdout: frame.out, process.stderr: frame.err}, frame, deadline)
                status = process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except (TimeoutError, subprocess.TimeoutExpired):
                _kill(process)
                raise NoAnswer(f"{self.name}: the command did not end within {timeout:g} s") from None
            except BaseException:
                _kill(process)
                raise
            finally:
                feeder.join(timeout=5)
        return frame.result(status if status >= 0 else 128 - status)

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _feed(pipe: IO[bytes], stdin: Stdin) -> None:
    # A command that ends without reading its input is not an error of ours.
    with contextlib.suppress(BrokenPipeError), pipe:
        if isinstance(stdin, bytes):
            pipe.write(stdin)
        elif stdin is not None:
            while piece := stdin.read(SLICE):
                pipe.write(piece)


def _pump(sinks: Mapping[IO[bytes], OnBytes], frame: Frame, deadline: float | None) -> None:
    """Read the pipes to the end of the frame, or to theirs; raises TimeoutError at the deadline."""
    with selectors.DefaultSelector() as selector:
        for pipe, sink in sinks.items():
            selector.register(pipe, selectors.EVENT_READ, sink)
        while selector.get_map() and not frame.whole:
            ready = selector.select(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, SLICE)
                if piece:
                    key.data(piece)
                else:
                    selector.unregister(key.fileobj)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
