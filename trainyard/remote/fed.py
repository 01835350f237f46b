"""What goes in front of a command's own input: the command itself where it is too long for a line, and values that no ps shall show."""

from __future__ import annotations

import io
import secrets

from trainyard.remote.frame import packed
from trainyard.remote.protocol import Readable, Stdin, with_values
from trainyard.shellscript import load

DROPBEAR = 8000
"""Bytes of a line that Dropbear surely takes: from 9000 on it ends the whole connection without a word."""


def fed(command: str, stdin: Stdin) -> tuple[str, Stdin]:
    """Return a short command that reads the long one from its input, and that input."""
    mark = secrets.token_hex(12)
    word = (command + mark).encode(errors="surrogateescape")
    line = with_values(load(__package__, "fed"), count=len(word), mark=mark)
    return line, in_front(word, stdin)


def with_hidden(settings: str, command: str) -> tuple[str, bytes]:
    """Return a command before which these settings are made, and what stands for them in front of its input."""
    if not settings:
        return command, b""
    return load(__package__, "hidden") + command, packed(settings) + b"\n"


def in_front(first: bytes, stdin: Stdin) -> Stdin:
    """Return an input with bytes in front of it."""
    if not first:
        return stdin
    return first + (stdin or b"") if stdin is None or isinstance(stdin, bytes) else _Behind(first, stdin)


class _Behind:
    """Bytes, and behind them what another source has."""

    def __init__(self, first: bytes, then: Readable) -> None:
        self._first, self._then = io.BytesIO(first), then

    def read(self, count: int = -1, /) -> bytes:
        """Return at most ``count`` bytes, none at the end."""
        return self._first.read(count) or self._then.read(count)
