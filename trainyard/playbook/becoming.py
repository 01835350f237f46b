"""Become another user of a host: everything that a task sends there runs as that user."""

from __future__ import annotations

import secrets
from typing import Self

from trainyard.errors import PodFailed
from trainyard.remote.protocol import CommandResult, OnBytes, Stdin, Transport, with_values
from trainyard.shellscript import load

METHODS = ("sudo", "su", "doas")
_WORDS = 4096
"""Bytes at the end of stderr that are looked at for what keeps a login from becoming another user."""


class Becoming:
    """A transport whose commands run as another user; a password is never asked for."""

    def __init__(self, inner: Transport, user: str, method: str) -> None:
        self._inner, self._user, self._method = inner, user, method
        self.name = inner.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Becoming) and self._way == other._way

    def __hash__(self) -> int:
        return hash(self._way)

    @property
    def _way(self) -> tuple[int, str, str]:
        return id(self._inner), self._user, self._method

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        """Run a command as the user; see Transport. Raises PodFailed when that way is closed."""
        nonce, end = secrets.token_hex(16), bytearray()

        def err(data: bytes) -> None:
            if on_stderr:
                on_stderr(data)
            end.extend(data)
            del end[:-_WORDS]

        text = with_values(load(__package__, "become"), user=self._user, method=self._method, nonce=nonce, command=command)
        done = self._inner.exec(text, stdin, timeout=timeout, on_stdout=on_stdout, on_stderr=err if on_stderr else None)
        words = bytes(end) if on_stderr else done.stderr
        said, closed, missing = words.rpartition(nonce.encode())
        if not closed:
            return done
        why = CommandResult(done.rc, b"", said).error_text
        raise PodFailed(
            f"{self.name}: '{self._method}' does not lead to the user '{self._user}' without a password or a terminal: {why}",
            hint=f"Log in as {self._user}, or let root of the host do: {self._remedy(*missing.decode(errors='replace').split())}",
        )

    def _remedy(self, login: str, missing: str) -> str:
        rule = f"Defaults:{login} !requiretty" if missing == "terminal" else f"{login} ALL=({self._user}) NOPASSWD: ALL"
        return f"echo '{rule}' >>/etc/sudoers.d/trainyard"

    def close(self) -> None:
        """The inner transport stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
