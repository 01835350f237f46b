"""Which values the trials of a sweep are tried with: every combination, or so many drawn by a seed. The same words give the same trials."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Literal

from trainyard.errors import UserError
from trainyard.runs.sweeps.space import Dimension

Sampler = Literal["grid", "random", "optuna"]
Parameters = dict[str, str]
"""Name of what is varied -> its value, as ``--set`` takes it."""

MOST_TRIALS = 100
"""Trials of a sweep unless --max-trials says otherwise."""
_REDRAWS = 1000


def combinations(dimensions: Sequence[Dimension]) -> int | None:
    """Return how many different trials there can be; None for a range without a number of values."""
    counts = [dimension.count for dimension in dimensions]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def grid(dimensions: Sequence[Dimension], most: int) -> list[Parameters]:
    """Return every combination, the last dimension's values changing first. Raises UserError for a range without end, and too many."""
    endless = next((dimension for dimension in dimensions if dimension.count is None), None)
    if endless is not None:
        hint = f"Say how many, as in {endless.source}:5, or draw from it: --sampler random --trials 20"
        raise UserError(f"{endless.source}: a grid needs to know how many values of it are tried", hint=hint)
    names = [dimension.name for dimension in dimensions]
    how = " x ".join(f"{dimension.count:,}" for dimension in dimensions) if len(names) > 1 else f"--sweep {names[0]}"
    _refuse_many(combinations(dimensions) or 0, most, how)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(dimension.each() for dimension in dimensions))]


def drawn(dimensions: Sequence[Dimension], trials: int, seed: int, most: int) -> list[Parameters]:
    """Return ``trials`` different combinations, drawn by a seed. Raises UserError for more than there are (or are found), and too many."""
    refuse_count(dimensions, trials, most)
    dice, seen = random.Random(seed), dict[tuple[str, ...], Parameters]()
    for _ in range(trials * _REDRAWS):
        parameters = {dimension.name: _drawn(dimension, dice) for dimension in dimensions}
        seen.setdefault(tuple(parameters.values()), parameters)
        if len(seen) == trials:
            break
    if len(seen) < trials:  # a narrow range has few numbers of six digits
        varied = ", ".join(dimension.source for dimension in dimensions)
        raise UserError(
            f"--trials {trials}: {varied} has only {len(seen)} different values, as numbers have six digits",
            hint=f"A wider range, or --trials {len(seen)}.",
        )
    return list(seen.values())


def refuse_count(dimensions: Sequence[Dimension], trials: int, most: int) -> None:
    """Raise UserError where so many trials cannot be, or are more than a person may mean."""
    if trials < 1:
        raise UserError(f"--trials {trials}: a sweep has 1 trial or more")
    _refuse_many(trials, most, "--trials")
    there_are = combinations(dimensions)
    if there_are is not None and trials > there_are:
        raise UserError(f"--trials {trials}: there are only {there_are} combinations", hint="--sampler grid tries them all.")


def _refuse_many(trials: int, most: int, how: str) -> None:
    if trials > most:
        raise UserError(
            f"{how}: {trials:,} trials, and {most:,} are the most of one sweep unless you say otherwise",
            hint=f"Meant so? --max-trials {trials}. Else fewer values, or some of them: --sampler random --trials 20",
        )


def _drawn(dimension: Dimension, dice: random.Random) -> str:
    if dimension.span is not None:
        return dimension.span.text_of(dice.random())
    return dice.choice(dimension.values)
