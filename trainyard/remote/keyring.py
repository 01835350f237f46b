"""The keys that a login may be tried with: those of ssh-agent, those of files, and the passphrase that is asked once."""

from __future__ import annotations

import contextlib
import getpass
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
from paramiko.agent import AgentSSH
from paramiko.auth_strategy import AuthSource, AuthStrategy, InMemoryPrivateKey

from trainyard.errors import UserError
from trainyard.remote.keys import split_public
from trainyard.remote.sshconfig import SshRoute

_ASKED = 3
"""Times that a passphrase is asked for."""
_LOCK = threading.Lock()
_OPENED: dict[Path, paramiko.PKey | None] = {}
"""Keys whose passphrase was asked for: of all hosts and threads once; None: nobody knew it."""


class OwnKeys(AuthStrategy):  # type: ignore[misc]
    """Keys in the order in which they are offered; a passphrase is asked for last, when nothing else was taken."""

    def __init__(self, route: SshRoute) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._route = route
        self.tried: list[str] = []

    def get_sources(self) -> Iterator[AuthSource]:
        """Yield the sources: keys of the agent that ssh_config names, its files, the agent's others, files with a passphrase."""
        route = self._route
        with _agent(route.agent) as agent:
            held = {key.get_base64(): key for key in agent.get_keys()}
            closed: list[Path] = []
            for path in route.key_files:
                public = _public(path)
                if public in held:
                    yield self._source(held.pop(public), f"{path} in the agent")
                elif path.is_file():
                    key = _OPENED.get(path) or _opened(path, None)
                    if key is None:
                        closed.append(path)
                    else:
                        yield self._source(key, str(path))
            for key in held.values() if not route.only_these else ():
                yield self._source(key, f"{key.comment or 'a key'} in the agent")
        for path in closed:
            key = _asked(path, str(route))
            if key is not None:
                yield self._source(key, str(path))

    def _source(self, key: paramiko.PKey, shown: str) -> AuthSource:
        self.tried.append(shown)
        return InMemoryPrivateKey(self._route.user, key)


@contextlib.contextmanager
def _agent(path: str | None) -> Iterator[AgentSSH]:
    agent = AgentSSH()
    if path is None:
        yield agent
        return
    with socket.socket(socket.AF_UNIX) as line:
        # An agent that has ended, or cannot be understood, holds no key.
        with contextlib.suppress(OSError, paramiko.SSHException):
            line.connect(path)
            agent._connect(line)
        yield agent


def _public(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return split_public(path.with_name(path.name + ".pub").read_text(encoding="utf-8"))[1]
    return None


def _opened(path: Path, passphrase: str | None) -> paramiko.PKey | None:
    """Return the key of a file, None when it needs a passphrase, or another one. Raises UserError for what is no key."""
    try:
        return paramiko.PKey.from_path(path, None if passphrase is None else passphrase.encode())
    except TypeError:
        return None
    except (ValueError, paramiko.SSHException, paramiko.UnknownKeyType, OSError) as error:
        if passphrase is not None and isinstance(error, ValueError):
            return None
        raise UserError(
            f"the SSH key {path} cannot be used: {getattr(error, 'strerror', None) or 'it is damaged or of no known type'}"
        ) from None


def _asked(path: Path, host: str) -> paramiko.PKey | None:
    with _LOCK:
        if path not in _OPENED:
            if not sys.stdin.isatty():
                raise UserError(
                    f"{host}: the SSH key {path} has a passphrase, and there is no terminal to ask for it", hint=f"ssh-add {path}"
                )
            _OPENED[path] = None
            for _ in range(_ASKED):
                key = _opened(path, getpass.getpass(f"Passphrase of {path}: "))
                if key is not None:
                    _OPENED[path] = key
                    break
        return _OPENED[path]
