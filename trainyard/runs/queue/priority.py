"""What a priority may be."""

from __future__ import annotations

from trainyard.errors import UserError

PRIORITIES = range(-10, 11)
"""An hour of waiting is worth one of them."""


def check_priority(priority: int) -> int:
    """Return a priority; raises UserError for what is none."""
    if priority not in PRIORITIES:
        raise UserError(f"--priority {priority}: it is a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}")
    return priority
