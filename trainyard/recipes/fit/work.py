"""How much arithmetic a training is, and how long a GPU takes for it."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.recipes.fit.memory import Method
from trainyard.recipes.fit.shapes import ModelShape

ASSUMED = {False: (0.12, 0.25, 0.45), True: (0.018, 0.033, 0.10)}
"""Share of a GPU's peak that trainings use, the least, the likely and the most, without and with experts, where no finished run tells.

Of experts the likely and the least were measured (Qwen3-30B-A3B in 4 bits on an RTX 5090, two pods); all others are assumed.
"""


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds of training: the least, the likely and the most."""

    low: float
    likely: float
    high: float
    runs: int = 0
    """Finished runs that tell it; 0: it is assumed."""


def flops(shape: ModelShape, method: Method, tokens: float) -> float:
    """Return the operations of a training over so many tokens."""
    met = sum(one.weights * one.active // one.each for one in shape.linears) + shape.vocabulary * shape.hidden
    forward = 2.0 * met + 2.0 * shape.layers * shape.queries * method.length
    return forward * passes(method) * tokens


def passes(method: Method) -> int:
    """Return how often a token that is learnt goes through the model; one of a row that is held back goes through it once a look."""
    # Backward: gradients of what flows through every layer, and of the weights where they are trained; once more forward for
    # what was not kept, and for what the base alone would have answered.
    return 1 + (2 if method.full else 1) + method.checkpointing + method.pairs


def duration(operations: float, tflops: float, shares: tuple[float, float, float], runs: int = 0) -> Duration:
    """Return how long operations take on a GPU whose peak and whose used share of it are known, as so many runs tell."""
    low, likely, high = (operations / (tflops * 1e12 * share) for share in (shares[2], shares[1], shares[0]))
    return Duration(low, likely, high, runs)


def told_by(runs: int) -> str:
    """Return, in words, so many finished runs."""
    return "1 finished run" if runs == 1 else f"{runs} finished runs"
