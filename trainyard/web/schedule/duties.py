"""The duties, as a table: what is typed, how often, and what for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Duty:
    """One of them; ``every``: seconds from its end to its next beginning."""

    name: str
    words: tuple[str, ...]
    every: float
    purpose: str


DUTIES: Sequence[Duty] = (
    Duty("queue", ("worker",), 15.0, "begins what is queued when it is its turn, and finishes it; goes on for as long as the server does"),
    Duty("recover", ("recover",), 60.0, "finishes the story of runs whose controller has died"),
    Duty("reaper", ("reap", "--all-stacks"), 600.0, "ends pods whose lease is over"),
    Duty("mirror", ("runs", "--limit=1", "--json"), 60.0, "takes in what others tell of their runs, and late bills; sends what waits"),
    Duty("sweeper", ("gc", "--all-stacks", "--yes"), 86_400.0, "removes from buckets what their rules say and no run can use"),
)  # fmt: skip
