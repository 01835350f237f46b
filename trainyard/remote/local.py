"""The transports that are a program of this machine: ``sh -c`` for this very one, or a command that leads on to another."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from trainyard.errors import Unreachable
from trainyard.remote.frame import Frame, NotRun
from trainyard.remote.protocol import CommandResult, NoAnswer, OnBytes, Stdin

SLICE = 128 * 1024
LINGER = 2.0
"""Seconds that a program may stay when the answer is whole."""


class LocalTransport:
    """Run commands here. ``env`` replaces the environment, ``cwd`` is where commands start."""

    def __init__(self, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self.name = "localhost"
        self._env = dict(env) if env is not None else None
        self._cwd = cwd

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        """Run a POSIX sh command to its end; see Transport. After ``timeout`` its process group is killed."""
        frame = Frame(self.name, command, on_stdout, on_stderr)
        process = _started(frame.words, env=self._env, cwd=self._cwd)
        status = _finish(process, frame, stdin, timeout, self.name)
        return frame.result(status if status >= 0 else 128 - status)

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CommandTransport:
    """Run commands through a program of this machine that passes a line on to a shell elsewhere, as ``ssh HOST`` does.

    Whatever that program knows of the way is in force: a person's ssh_config, agent, jump hosts, shared connections.
    """

    def __init__(self, words: Sequence[str], name: str) -> None:
        self.name = name
        self._words = list(words)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        """Run a POSIX sh command to its end; see Transport. After ``timeout`` the program here is killed, the command runs on."""
        frame = Frame(self.name, command, on_stdout, on_stderr)
        with self._lock:
            if self._closed:
                raise Unreachable(f"{self.name}: the connection was closed here")
            try:
                process = _started([*self._words, frame.line.removeprefix(b"exec ")])
            except OSError as error:
                raise Unreachable(f"{self.name}: '{self._words[0]}' cannot be started: {error.strerror}") from None
            self._running.add(process)
        try:
            status = _finish(process, frame, stdin, timeout, self.name)
        finally:
            with self._lock:
                self._running.discard(process)
        try:
            # Killed here it says nothing about the command; else it speaks of the way, or for the command.
            return frame.result(None if status < 0 else status)
        except NotRun as error:
            # It is the way that failed, which may be another in a moment; that it is a strange target nobody can tell from here.
            raise Unreachable(f"{self.name}: cannot be entered ({error.seen})") from None

    def close(self) -> None:
        """End what still waits for an answer; what runs at the other end runs on."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            _kill(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _started(words: Sequence[str | bytes], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=cwd, start_new_session=True
    )


def _finish(process: subprocess.Popen[bytes], frame: Frame, stdin: Stdin, timeout: float | None, name: str) -> int:
    """Feed a program and read it to the end of the frame; return what it ended with. After ``timeout`` its group is killed."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with process:
        assert process.stdin and process.stdout and process.stderr
        feeder = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
        feeder.start()
        try:
            _pump({process.stdout: frame.out, process.stderr: frame.err}, frame, deadline)
            if frame.whole:
                return _left(process)
            return process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            _kill(process)
            raise NoAnswer(f"{name}: the command did not end within {timeout:g} s") from None
        except BaseException:
            _kill(process)
            raise
        finally:
            feeder.join(timeout=5)


def _left(process: subprocess.Popen[bytes]) -> int:
    """Return what a program ended with whose command has told its end; what the command left running may hold it open."""
    try:
        return process.wait(LINGER)
    except subprocess.TimeoutExpired:
        _kill(process)
        return process.wait()


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
