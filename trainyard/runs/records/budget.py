"""When a run's budget stops its training: early enough that bringing the result to safety fits into it, too."""

from __future__ import annotations

from trainyard.clock import parse_time
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.summary import cost


def budget_stop(record: RunRecord, now: float) -> float | None:
    """Return the moment (epoch seconds) of the stop, as the pod's own watchdog reckons it; None without a budget or a price."""
    if record.budget is None or record.per_hour <= 0:
        return None
    return now + (record.budget - cost(record, now)) / record.per_hour * 3600 - _rescue_seconds(record)


def _rescue_seconds(record: RunRecord) -> float:
    stop, end = parse_time(record.pod.stop), parse_time(record.pod.end)
    return max(0.0, (end - stop).total_seconds()) if stop and end else 0.0
