"""Spending limits as the ledger sees them: so many dollars in so many seconds, and what is left of them at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpendLimit:
    """What may be spent at most: dollars in the last so many seconds."""

    name: str
    dollars: float
    seconds: float


@dataclass(frozen=True, slots=True)
class LimitRest:
    """A limit, and what of it is spent and committed: what runs without a recorded end may still come to, in dollars."""

    limit: SpendLimit
    spent: float
    committed: float

    @property
    def dollars(self) -> float:
        """What is left."""
        return self.limit.dollars - self.spent - self.committed
