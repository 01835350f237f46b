"""What trials are judged by: a figure of ``metrics.jsonl``, its last value or its best, the smaller the better unless said otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.errors import UserError
from trainyard.runs.records.progress import Curve

_TEXT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_./-]*)(?P<more>(?::(?:last|best|min|max))*)")


@dataclass(frozen=True, slots=True)
class Objective:
    """A figure, which of its values counts, and which of two is better."""

    name: str
    best: bool = False
    """Its best value counts, not its last."""
    maximize: bool = False

    def __str__(self) -> str:
        return f"{'best' if self.best else 'last'} {self.name}"

    def value(self, curve: Curve) -> float | None:
        """Return what a trial is judged by, None while there is nothing."""
        values = [value for _, value in curve]
        if not values:
            return None
        return self.better(values) if self.best else values[-1]

    def better(self, values: Sequence[float]) -> float:
        """Return the best of values."""
        return max(values) if self.maximize else min(values)

    def rank(self, value: float | None) -> tuple[bool, float]:
        """Return what trials are sorted by: the best first, those without a value last."""
        return value is None, 0.0 if value is None else -value if self.maximize else value


def read_objective(text: str) -> Objective:
    """Return what ``--objective`` says: NAME, then :best or :last, :min or :max. Raises UserError."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        hint = "Write the name of a figure of metrics.jsonl: loss, eval_loss:best, accuracy:max"
        raise UserError(f"--objective {text}: it names no figure", hint=hint)
    more = set(match["more"].split(":")[1:])
    if {"last", "best"} <= more or {"min", "max"} <= more:
        raise UserError(f"--objective {text}: it says both of two things")
    return Objective(match["name"], "best" in more, "max" in more)
