"""A piece of a run's log as text: from any byte on, without what steers a terminal; the log itself is kept byte for byte."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PIECE = 1 << 16
"""Bytes that are shown at once."""
_STEERS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_OTHER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class LogPiece:
    """What was read: ``offset`` is its first byte, ``next`` where to go on, ``size`` how long the log is by now."""

    text: str
    offset: int
    next: int
    size: int
    piece: int = PIECE


NOTHING_YET = LogPiece("", 0, 0, 0)
"""Of a training that has printed nothing."""


def log_piece(path: Path, offset: int | None) -> LogPiece | None:
    """Return the piece from a byte on, None: the end; None where there is no log here."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = min(size, max(0, size - PIECE) if offset is None else offset)
            file.seek(begin)
            data = file.read(PIECE)
    except FileNotFoundError:
        return None
    return LogPiece(as_text(data.decode(errors="replace")), begin, begin + len(data), size)


def as_text(said: str) -> str:
    """Return what a log says as a page shows it: a bar that is drawn over itself becomes lines."""
    text = _STEERS.sub("", said).replace("\r\n", "\n").replace("\r", "\n")
    return _OTHER.sub("", text)
