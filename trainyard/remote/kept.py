"""How much of an output is kept: a command that prints without end must not fill this machine's memory."""

from __future__ import annotations

MOST = 8 * 1024 * 1024
"""Bytes of one stream of a command that are kept; what comes behind them is counted."""


class KeptOutput:
    """The first bytes of a stream, and how many came behind them."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = self.lost = 0

    def take(self, data: bytes) -> None:
        """Keep the bytes, as far as there is room."""
        room = MOST - self._size
        if room > 0:
            self._chunks.append(data[:room])
            self._size += len(self._chunks[-1])
        self.lost += max(0, len(data) - room) if room > 0 else len(data)

    def bytes(self) -> bytes:
        """Return what was kept."""
        # Not twice in memory, as long as somebody holds this.
        self._chunks = [b"".join(self._chunks)]
        return self._chunks[0]
