"""How long to wait between tries: growing pauses, one way for links, clouds, stores and processes.

What is tried, when it is given up and what counts as an answer differ from place to place (proofs, deadlines, limits of
a cloud), so each loop is where its reason is. Only the pauses are the same, and they are here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between tries: ``first``, then each time ``factor`` as long, at most ``most``.

    ``chance`` is the part of a pause (0 to 1) that is left to chance, so that many who wait do not come back at once.
    """

    first: float
    most: float
    factor: float = 2.0
    chance: float = 0.0

    def pause(self, attempt: int, draw: Callable[[], float] = random) -> float:
        """Return the pause after an attempt, counted from 1; ``draw`` gives a number from 0 to 1."""
        whole = min(self.most, self.first * self.factor ** min(attempt - 1, 64))
        return whole * (1 - self.chance * (1 - draw())) if self.chance else whole

    def pauses(self) -> Iterator[float]:
        """Return the pauses one after the other, without end."""
        attempt = 0
        while True:
            attempt += 1
            yield self.pause(attempt)


LINK = Backoff(0.25, 15.0, chance=0.3)
"""Between tries to reach a pod."""
SERVER = Backoff(1.0, 60.0, chance=0.5)
"""Between tries of a worker to reach its server."""
EFFECT = Backoff(0.05, 3.0)
"""Between looks at a cloud for what was asked of it."""
STORE = Backoff(2.0, 30.0)
"""Between rounds against a store."""
PROCESS = Backoff(0.002, 0.1)
"""Between looks at a process of this machine."""
