"""Keys of rehearsals: made up by an emulator, of no use at any real cloud, and known as such by every adapter."""

from __future__ import annotations

_MARK = "rehearsal_"


def rehearsal_key(prefix: str, rest: str) -> str:
    """Return a key as a rehearsal makes it; ``prefix`` is what the cloud's own keys begin with."""
    return f"{prefix}{_MARK}{rest}"


def is_rehearsal(key: str) -> bool:
    """Tell whether a key is a rehearsal's: then an emulator answers, and every summary says so."""
    return _MARK in key
