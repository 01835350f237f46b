"""Spending limits as the ledger sees them: so many dollars of some runs in so many seconds, and what is left of them at one moment."""

from __future__ import annotations

from dataclasses import dataclass

_TRIFLE = 5e-7
"""Dollars by which a sum of fractions may be off: a limit may be filled to the cent."""


@dataclass(frozen=True, slots=True)
class SpendLimit:
    """What may be spent at most: dollars in the last so many seconds, or by one run (None) with all its attempts."""

    name: str
    dollars: float
    seconds: float | None
    users: tuple[str, ...] = ()
    """Whose runs count; none: everybody's."""
    stack: str | None = None
    """Which stack's runs count; None: every stack's."""
    blocks: bool = True
    """What would pass it is refused; else that is only said."""


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

    def is_passed_by(self, dollars: float) -> bool:
        """Tell whether so many dollars more are more than what is left."""
        return dollars > self.dollars + _TRIFLE
