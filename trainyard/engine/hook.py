"""All that the engine takes from outside itself, and what a project that embeds it may plug in.

This file and ``document.py`` are the only ones of the engine that name another module of Trainyard. What they name
knows nothing of training: errors that a person reads, files written whole, YAML with the place of every node,
proxies, SSH. A package of the engine alone would bring these two files with contents of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainyard import __version__
from trainyard.clock import exact_time
from trainyard.errors import (
    Busy,
    EngineError,
    HostKeyChanged,
    Location,
    RefusedError,
    Unreachable,
    UserError,
    kind_of,
    outside,
)  # fmt: skip
from trainyard.errors import TrainyardError as ReadableError
from trainyard.files import sync, write_atomic, write_new

if TYPE_CHECKING:
    from trainyard.remote.transport import SshTransport

__all__ = [
    "Busy",
    "EngineError",
    "HostKeyChanged",
    "Location",
    "ReadableError",
    "RefusedError",
    "Unreachable",
    "UserError",
    "exact_time",
    "kind_of",
    "outside",
    "sync",
    "write_atomic",
    "write_new",
]


@dataclass(frozen=True, slots=True)
class HostAddress:
    """Where a command is to run, and the host key that is believed (None: any, and it is told)."""

    host: str
    port: int
    user: str
    host_key: str | None
    key_file: Path | None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class CommandExit:
    """How a command ended."""

    code: int
    stdout: bytes
    stderr: bytes


class RemoteShell(Protocol):
    """A connection to a host."""

    def run(self, command: str, env: Mapping[str, str], stdin: bytes, timeout: float | None) -> CommandExit:
        """Run a command of sh with these variables; raises a ReadableError when the host does not answer."""

    def close(self) -> None:
        """Leave."""


def _network() -> None:
    from trainyard import network

    network.apply()


def _dial(address: HostAddress, timeout: float, on_new_key: Callable[[str], None]) -> RemoteShell:
    from trainyard.remote.transport import Address, connect  # what speaks SSH is loaded only where a host is to be reached

    where = Address(address.host, address.port, address.user, address.host_key, address.key_file)
    return _Ssh(connect(where, timeout=timeout, on_new_host_key=on_new_key))


class _Ssh:
    """Trainyard's own connection as the engine uses it."""

    def __init__(self, transport: SshTransport) -> None:
        self._transport = transport

    def run(self, command: str, env: Mapping[str, str], stdin: bytes, timeout: float | None) -> CommandExit:
        """See RemoteShell."""
        from trainyard.remote.transport import with_environment

        done = self._transport.exec(with_environment(command, env), stdin, timeout=timeout)
        return CommandExit(done.rc, done.stdout, done.stderr)

    def close(self) -> None:
        """See RemoteShell."""
        self._transport.close()


@dataclass(frozen=True, slots=True)
class Hook:
    """What an embedding project may plug in; the defaults serve any Pulumi project in Python."""

    name: str = f"trainyard-{__version__}"
    """Stands in each state as the version of what wrote it."""
    advice: str = "Use the Pulumi CLI for this project."
    """What a person can do where the engine refuses something."""
    network: Callable[[], None] = _network
    """Puts proxies and certificates where libraries look for them, before anything is reached."""
    dial: Callable[[HostAddress, float, Callable[[str], None]], RemoteShell] = _dial
    """Connects for ``command:remote:Command``; raises Unreachable, HostKeyChanged, or another ReadableError."""


_plugged = [Hook()]


def plug(replacement: Hook) -> None:
    """Use another hook from now on; before the first operation."""
    _plugged[0] = replacement


def hook() -> Hook:
    """Return what is plugged in."""
    return _plugged[0]
