"""What a priority may be."""

from __future__ import annotations

from trainyard.errors import UserError
from trainyard.runs.records.identity import shown

PRIORITIES = range(-10, 11)
"""An hour of waiting is worth one of them."""


def check_priority(priority: int) -> int:
    """Return a priority; raises UserError for what is none."""
    if priority not in PRIORITIES:
        raise _none(str(priority))
    return priority


def priority_of(text: str) -> int:
    """Return a priority as a person writes it; raises UserError for what is none."""
    try:
        return check_priority(int(text))
    except ValueError:
        raise _none(shown(text)) from None


def _none(said: str) -> UserError:
    return UserError(f"--priority {said}: it is a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}")
