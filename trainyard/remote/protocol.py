"""What a transport is: one primitive, ``exec``, that every action, transfer and job is built on.

A target needs POSIX sh and the usual small tools, nothing else: no Python, no SFTP.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from trainyard.errors import PodFailed, Unreachable
from trainyard.secret import Secret
from trainyard.sshlogin import parse_login

OnBytes = Callable[[bytes], None]


class Readable(Protocol):
    """Input that is read as it is sent."""

    def read(self, count: int = -1, /) -> bytes:
        """Return at most ``count`` bytes, none at the end."""
        ...


class SharedInput:
    """Input of a command whose work others do as well: that the server grants it no session is no trouble of the link."""


Stdin = bytes | Readable | None


@dataclass(frozen=True, slots=True)
class Address:
    """Where sshd answers and which key it must show; ``key_file`` None means the user's own agent and keys."""

    host: str
    port: int = 22
    user: str = "root"
    host_key: str | None = None
    key_file: Path | None = None
    command: tuple[str, ...] = ()
    """Program of this machine that passes a line on to a shell there, with its arguments: the way where no sshd of its own answers."""
    through: str | None = None
    """The machine whose own sshd leads there, as SshLogin.url; None: it is dialled directly."""

    def __str__(self) -> str:
        behind = f" of {parse_login(self.through).name}" if self.through else ""
        return self.host if self.command else f"{self.user}@{self.host}:{self.port}{behind}"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. Output stays bytes; a signal's number is in ``rc`` as in sh (128 + n)."""

    rc: int
    stdout: bytes
    stderr: bytes
    lost: int = 0
    """Bytes that came behind those that were kept, where not all were."""

    @property
    def text(self) -> str:
        """Return stdout as text for a person; undecodable bytes are shown, not lost silently."""
        return self.stdout.decode(errors="backslashreplace")

    @property
    def error_text(self) -> str:
        """Return the last lines of stderr (else of stdout) for a message."""
        shown = self.stderr.strip() or self.stdout.strip()
        return "\n".join(shown.decode(errors="backslashreplace").splitlines()[-10:])


class NoAnswer(Unreachable):
    """A command did not end within the time given; it may go on running on the pod."""


class NotSent(Unreachable):
    """The link was lost before the command left this machine: it did not run, and may be sent over another link."""


class Transport(Protocol):
    """A way to run commands somewhere. Safe to call from several threads."""

    name: str

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        """Run a POSIX sh command to its end; with ``on_stdout`` (``on_stderr``) the output goes there instead of into the result.

        The result is the command's own, proven by a frame around it (frame.py). Raises Unreachable when the link is
        lost, and as one of its kinds NotSent, NoAnswer after ``timeout`` seconds, NotRun when something else answered.
        """
        ...

    def close(self) -> None:
        """Give the connection back. Calling it twice is harmless."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def quote(value: object) -> str:
    """Return the value as one word of sh. The only function here that quotes; a Secret stays hidden."""
    return shlex.quote(str(value))


def with_environment(command: str, env: Mapping[str, object]) -> str:
    """Return the command with variables exported first; values are data, never code (measured: Fabric's own way runs them).

    A Secret is revealed here: the environment is the one way for it to reach a command.
    """
    for name in env:
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f"'{name}' is not a variable name")
    exports = "".join(f"export {name}={quote(value.reveal() if isinstance(value, Secret) else value)}\n" for name, value in env.items())
    return exports + command


def with_values(script: str, **values: object) -> str:
    """Return the script with its shell variables set first: the one way values get into a script of ours."""
    return "".join(f"{name}={quote(value)}\n" for name, value in values.items()) + script


def ended_by_nul(words: Iterable[str]) -> bytes:
    """Return words, mostly names of files, as our scripts read them from stdin: any byte but NUL may be in one."""
    return "".join(f"{word}\0" for word in words).encode(errors="surrogateescape")


def expect(result: CommandResult, what: str) -> CommandResult:
    """Return the result of a command that had to succeed; raises PodFailed with its last words otherwise."""
    if result.rc:
        raise PodFailed(f"{what}: {result.error_text or f'exit code {result.rc}'}")
    return result
