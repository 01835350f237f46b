"""The user's own ``ssh`` on the way to a machine: what it reaches, with whatever keys, agent and ssh_config, is reached here.

Host keys are those of the user's known_hosts, and an unknown one is refused. Nothing is ever asked of a person: ssh runs
without a terminal.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from trainyard.errors import Unreachable, UserError
from trainyard.sshlogin import SshLogin, parse_login

NO_SSH = 255
"""What ssh itself ends with when it did not get there."""
LOGIN = 15.0
"""Seconds that a login on the way may take, beside what is waited for behind it."""


@dataclass(frozen=True, slots=True)
class SshAnswer:
    """What a command on another machine answered; ``code`` NO_SSH: mostly that ssh did not get there."""

    code: int
    out: bytes
    said: str
    """The last lines of its stderr."""


def run(login: SshLogin, command: str, stdin: bytes, timeout: float) -> SshAnswer:
    """Run a command line on a machine. Raises Unreachable when it does not end in time, or this machine has no ssh."""
    try:
        done = subprocess.run(
            [*login.words(), command],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            start_new_session=True,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{login.name}: no answer within {timeout:.0f} s") from None
    except FileNotFoundError:
        raise no_ssh() from None
    return SshAnswer(done.returncode, done.stdout, _last_lines(done.stderr))


class Link:
    """A socket whose other end a program of this machine holds, which leads on to somewhere."""

    def __init__(self, words: Sequence[str]) -> None:
        self.socket, theirs = socket.socketpair()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the link
        try:
            # A session of its own: Ctrl-C is for the command that was typed, not for the link to its pod.
            self._process = subprocess.Popen(
                words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._errors, start_new_session=True, env=_environment()
            )
        except FileNotFoundError:
            self.socket.close()
            raise no_ssh() from None
        finally:
            theirs.close()
        threading.Thread(target=self._process.wait, daemon=True).start()

    def said(self) -> str:
        """Return what ssh said last, when it is gone or goes now."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._errors.seek(0)
        return _last_lines(self._errors.read(65536))

    def close(self) -> None:
        """End the link."""
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        self._errors.close()


def _environment() -> dict[str, str]:
    return {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}


def no_ssh() -> UserError:
    """Return what is said where this machine has no ssh."""
    return UserError("the program 'ssh' is missing on this machine", hint="Install the OpenSSH client (Debian: openssh-client).")


def _last_lines(text: bytes) -> str:
    # Three: when a jump host refuses, what it said stands above two lines of the ssh that waited behind it.
    lines = text.decode(errors="replace").strip().splitlines()[-3:]
    return " / ".join("".join(sign for sign in line if sign.isprintable()) for line in lines)[:300]


def link_through(login: SshLogin, host: str, port: int) -> Link:
    """Return a link to an address that another machine reaches, led there by ``ssh -W``."""
    return Link(login.words("-W", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))


@contextlib.contextmanager
def open_socket(host: str, port: int, timeout: float, *, through: str | None = None) -> Iterator[socket.socket]:
    """Give a connection to an address, directly or through the sshd of another machine (SshLogin.url); raises OSError."""
    if through is None:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            yield connection
        return
    link = link_through(parse_login(through), host, port)
    try:
        link.socket.settimeout(timeout + LOGIN)
        yield link.socket
    finally:
        link.close()
