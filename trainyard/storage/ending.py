"""How a training ended that was no success, as bucket, record and summary tell it. Loads nothing: records are read by every command."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ending:
    """How a training ended that was no success; what it left is kept under ``_KEPT``, never under ``_SUCCESS``."""

    why: str
    exit_code: int | None = None
    checkpoints: tuple[str, ...] = ()
    """Those that are kept, newest first, as paths of the result."""

    def __str__(self) -> str:
        kept = ", ".join(path.rpartition("/")[2] for path in self.checkpoints)
        return f"NOT a success: {self.why}; {kept or 'no checkpoint'}"
