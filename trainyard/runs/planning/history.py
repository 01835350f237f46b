"""How long a run will take, and how large its result will be, from like runs: and on how many that rests. Knows no prices."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainyard.runs.records import codec
from trainyard.runs.records.measured import MEASURED, MeasuredRun, Workload

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger

_NEWEST = 500
"""So many measured runs of the ledger are looked at."""
_LIKE = 20
"""So many like ones at most tell, the newest."""
_LONGEST = 366 * 86_400.0
_LARGEST = 10**16
"""Bytes that no result has."""
_ABSURD = 100 * _LONGEST
"""Seconds that no training takes: what tells of more tells nothing."""
_FEW, _DOUBTS = 3, (0.15, 0.05)
"""By so much the range is wider on both sides than like runs were: where they are fewer than _FEW, and else."""
_SPREAD = 1.2
"""By so much the amounts of like runs must differ for what a training takes whatever its length to be told apart."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Seconds for which a run's pod will be paid: the least, the likely and the most, and how many like runs tell it."""

    low: float
    likely: float
    high: float
    aside: float
    """Of the likely ones, what is not training."""
    runs: int


@dataclass(frozen=True, slots=True)
class ResultSize:
    """How large a result will be, and how many like runs tell it."""

    bytes: int
    runs: int


def measured_runs(ledger: Ledger) -> list[MeasuredRun]:
    """Return the newest runs that a ledger has figures of, oldest first."""
    return [run for event in ledger.events(kind=MEASURED, newest=_NEWEST) if (run := _read(event.data)) is not None]


def expect(measured: Sequence[MeasuredRun], workload: Workload) -> Expectation | None:
    """Return how long a workload will take, from measured runs, oldest first; None where no like run is known."""
    like = [run for run in measured if run.workload.is_like(workload)][-_LIKE:]
    try:
        return _expected(like, workload.amount) if like else None
    except (ArithmeticError, ValueError):  # amounts so far apart that nothing can be reckoned with them
        return None


def expect_size(measured: Sequence[MeasuredRun], workload: Workload) -> ResultSize | None:
    """Return how large its result will be; None where nobody tells."""
    sizes = [run.result_bytes for run in measured if run.result_bytes is not None and run.workload.makes_alike(workload)][-_LIKE:]
    return ResultSize(int(statistics.median(sizes)), len(sizes)) if sizes else None


def _expected(like: Sequence[MeasuredRun], amount: float) -> Expectation | None:
    fixed, each = _line(like)
    train = fixed + each * amount
    ratios = [run.train / max(1e-9, fixed + each * run.workload.amount) for run in like]
    doubt = 1 + _DOUBTS[len(like) >= _FEW]
    asides = [run.aside for run in like]
    aside = statistics.median(asides)
    likely, low, high = train + aside, train * min(ratios) / doubt + min(asides), train * max(ratios) * doubt + max(asides)
    if not 0 <= likely <= max(likely, high) <= _ABSURD:
        return None
    return Expectation(min(low, likely), likely, high, aside, len(like))


def _line(like: Sequence[MeasuredRun]) -> tuple[float, float]:
    """Return the seconds that a training takes whatever its length, and those of each unit."""
    amounts = [run.workload.amount for run in like]
    if len(like) >= _FEW and max(amounts) >= _SPREAD * min(amounts):
        each, fixed = statistics.linear_regression(amounts, [run.train for run in like])
        if each > 0 and fixed >= 0:
            return fixed, each
    return 0.0, statistics.median(run.train / run.workload.amount for run in like)


def _read(data: Mapping[str, Any]) -> MeasuredRun | None:
    """Return what an event tells, which may come from any machine that shares a bucket; None for what cannot be."""
    try:
        run = codec.read(MeasuredRun, data)
    except (ValueError, TypeError):
        return None
    sound = all(math.isfinite(value) and 0 <= value <= _LONGEST for value in (run.train, run.aside))
    sound = sound and 0 <= (run.result_bytes or 0) <= _LARGEST
    return run if sound and run.train > 0 and math.isfinite(run.workload.amount) and run.workload.amount > 0 else None
