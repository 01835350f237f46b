"""Rows that are held back from the training: which, what the best of their losses was, and when patience is over.

Standard library and numpy only. What is said of the past is read from the trainer's log_history, which lies in every checkpoint:
a training that goes on elsewhere decides as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any


def chosen(rows: Mapping[str, Sequence[int]], contents: Sequence[bytes], fraction: float, seed: int) -> set[int]:
    """Return the samples that are held back: those of so many rows as the fraction says, at least one.

    ``rows``: place -> its samples. Rows are drawn by their content and the seed: their order says nothing, and rows
    that are equal are held back together, or a model would be judged by what it has learnt.
    """
    drawn: dict[str, list[Sequence[int]]] = {}
    for samples in rows.values():
        digest = hashlib.sha256(b"%d\0" % seed)
        for number in samples:
            digest.update(contents[number])
        drawn.setdefault(digest.hexdigest(), []).append(samples)
    wanted, held = max(1, round(fraction * len(rows))), list[Sequence[int]]()
    for key in sorted(drawn):
        if len(held) >= wanted:
            break
        held += drawn[key]
    return {number for samples in held for number in samples}


def losses(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Return (step, loss of the rows held back) of each time it was counted; what is no number is larger than any."""
    found = [(int(entry["step"]), float(entry["eval_loss"])) for entry in history if "eval_loss" in entry]
    return [(step, loss if math.isfinite(loss) else math.inf) for step, loss in found]


def best(history: Sequence[Mapping[str, Any]]) -> tuple[int, float] | None:
    """Return the step with the smallest loss of the rows held back, and that loss."""
    return min(losses(history), key=lambda each: (each[1], each[0]), default=None)


def is_over(history: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Tell whether the loss of the rows held back has not become smaller so many times in a row; patience 0 has no end."""
    found = losses(history)
    least = min(range(len(found)), key=lambda number: (found[number][1], number), default=0)
    return patience > 0 and len(found) - 1 - least >= patience
