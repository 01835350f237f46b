"""How long an operation takes here and now: a machine gets busier and quieter, and random instants must go on meeting the operation."""

from __future__ import annotations

SHARE = {"up": 1.0, "destroy": 0.6, "replace": 1.4, "train": 2.0}
"""An operation's time in times of an ``up`` with a pod, until it was measured."""
CLI = 1.5
"""The CLI's time in times of the built-in engine's, until it was measured."""
LONGER = 1.05
"""A random instant that met the operation says only that it takes longer than that: the next ones are sought later, too."""


class Pace:
    """The usual seconds of each operation by engine, learned from every command that ran to its end."""

    def __init__(self, up: float) -> None:
        self._up = up
        self._took: dict[tuple[str, str], float] = {}

    def of(self, operation: str, engine: str) -> float:
        """Return the usual seconds."""
        known = self._took.get((operation, engine))
        if known is not None:
            return known
        up = self._took.get(("up", engine)) or self._up * (CLI if engine == "cli" else 1.0)
        return SHARE[operation] * up

    def took(self, operation: str, engine: str, seconds: float) -> None:
        """Learn from a command that ran to its end."""
        key = (operation, engine)
        self._took[key] = (self._took[key] + seconds) / 2 if key in self._took else seconds

    def was_met(self, operation: str, engine: str) -> None:
        """Learn from a random instant that fell into the operation."""
        self._took[operation, engine] = LONGER * self.of(operation, engine)
