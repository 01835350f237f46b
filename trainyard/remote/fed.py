"""A command that is too long for its server's line goes in front of its own input."""

from __future__ import annotations

import io
import secrets

from trainyard.remote.protocol import Readable, Stdin, with_values
from trainyard.shellscript import load

DROPBEAR = 8000
"""Bytes of a line that Dropbear surely takes: from 9000 on it ends the whole connection without a word."""


def fed(command: str, stdin: Stdin) -> tuple[str, Stdin]:
    """Return a short command that reads the long one from its input, and that input."""
    mark = secrets.token_hex(12)
    word = (command + mark).encode(errors="surrogateescape")
    line = with_values(load(__package__, "fed"), count=len(word), mark=mark)
    if stdin is None or isinstance(stdin, bytes):
        return line, word + (stdin or b"")
    return line, _Behind(word, stdin)


class _Behind:
    """Bytes, and behind them what another source has."""

    def __init__(self, first: bytes, then: Readable) -> None:
        self._first, self._then = io.BytesIO(first), then

    def read(self, count: int = -1, /) -> bytes:
        """Return at most ``count`` bytes, none at the end."""
        return self._first.read(count) or self._then.read(count)
