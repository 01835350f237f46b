"""Will the training be over before it is stopped? Told once, while there is still something to be done about it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from trainyard.clock import parse_time
from trainyard.runs.records.budget import budget_stop
from trainyard.runs.records.progress import Metrics, duration
from trainyard.runs.records.record import RunRecord

LEAST_STEPS = 5
LEAST_SECONDS = 30.0
"""The first steps of a training are slow; what is told after fewer is a guess."""


class Outlook:
    """Looks at the pace of one training."""

    def __init__(
        self, record: RunRecord, warn: Callable[[str], None], clock: Callable[[], float] = time.time, *, can_extend: bool = False
    ) -> None:
        self.record, self.warn, self.clock, self.can_extend = record, warn, clock, can_extend
        self.has_warned = False

    def look(self, metrics: Metrics) -> None:
        """Warn once when the training ends later than its lease's stop or its budget allow."""
        if self.has_warned or not _steady(metrics):
            return
        left, now = metrics.eta(), self.clock()
        stops = _stops(self.record, now)
        if left is None or not stops:
            return
        at, why, option = min(stops)
        if now + left <= at:
            return
        self.has_warned = True
        self.warn(_text(self.record, metrics, now, left, at, why, option, self.can_extend))


def _steady(metrics: Metrics) -> bool:
    if metrics.first_time is None or metrics.last_time is None:
        return False
    return metrics.step - metrics.first_step >= LEAST_STEPS and metrics.last_time - metrics.first_time >= LEAST_SECONDS


def _stops(record: RunRecord, now: float) -> list[tuple[float, str, str]]:
    """Return what will stop the training: when, why, and the option that moves it."""
    stops = []
    lease = parse_time(record.pod.stop)
    if lease is not None:
        stops.append((lease.timestamp(), "its lease's stop", "--hours"))
    budget_ends = budget_stop(record, now)
    if budget_ends is not None:
        stops.append((budget_ends, f"its budget of ${record.budget:.2f}", "--budget"))
    return stops


def _text(
    record: RunRecord, metrics: Metrics, now: float, left: float, at: float, why: str, option: str, can_extend: bool
) -> str:  # fmt: skip
    late = now + left - at
    pace = (metrics.total - metrics.step) / left
    step = metrics.step + int(pace * max(0.0, at - now))
    more = 1.1 * late / 3600
    if option == "--hours":
        whole = max(1, math.ceil(more))
        remedy = f"invoke extend {record.id} {whole}h" if can_extend else f"then: invoke resume {record.id} --hours {whole}"
    else:
        dollars = math.ceil(2 * ((record.budget or 0.0) + record.spent_before + more * record.per_hour)) / 2
        remedy = f"then: invoke resume {record.id} --budget {dollars:g}"
    return (
        f"at this pace the training needs {duration(left)} more and is stopped in {duration(at - now)} by {why}, at about step {step:,} "
        f"of {metrics.total:,}; its outputs and newest checkpoint are kept then. To have all of it, {remedy}"
    )
