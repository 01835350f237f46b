"""A lease that is shorter than the training is told while something can still be done about it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.runs.test_identity_and_record import make_record
from trainyard.runs.life.outlook import Outlook
from trainyard.runs.records.parts import NO_POD, RunPod
from trainyard.runs.records.progress import Metrics

NOW = datetime(2026, 11, 29, 10, tzinfo=UTC).timestamp()


def metrics(step: int, total: int = 1000, seconds: float = 600.0) -> Metrics:
    """A training that was at step 1 so many seconds ago."""
    made = Metrics()
    for at, when in ((1, NOW - seconds), (step, NOW)):
        made.take(json.dumps({"step": at, "total_steps": total, "time": when}).encode())
    return made


def told(found: Metrics, *, can_extend: bool = False, **changes: Any) -> list[str]:
    said: list[str] = []
    pod = RunPod(stop="2026-11-29T11:00:00Z", price_per_hour=3.0, created_epoch=NOW - 1200)
    outlook = Outlook(make_record(**{"hours": 1.5, "pod": pod, **changes}), said.append, clock=lambda: NOW, can_extend=can_extend)
    for _ in range(2):
        outlook.look(found)
    return said


def test_a_lease_that_ends_before_the_training_is_told_once_with_the_numbers_and_what_will_happen() -> None:
    # 100 steps in 10 minutes: 899 left take 1h29m, the stop comes in one hour.
    (said,) = told(metrics(101))

    assert "needs 1h29m more and is stopped in 1h00m by its lease's stop, at about step 701 of 1,000" in said
    assert "newest checkpoint are kept" in said and said.endswith("then: invoke resume ann/a --hours 1")


def test_where_the_cloud_can_move_a_lease_that_is_the_remedy() -> None:
    (said,) = told(metrics(101), can_extend=True)

    assert said.endswith("To have all of it, invoke extend ann/a 1h")


def test_a_training_that_makes_it_is_left_in_peace() -> None:
    assert told(metrics(201)) == []


def test_a_budget_that_is_too_small_is_told_the_same_way() -> None:
    # One dollar is spent already, the second lasts 20 minutes; 400 steps left take 20 more than that.
    (said,) = told(metrics(201), budget=2.0)

    assert "is stopped in 20m00s by its budget of $2.00" in said and "invoke resume ann/a --budget 3.5" in said


def test_after_a_few_steps_nothing_is_said_yet() -> None:
    assert told(metrics(4)) == [] and told(metrics(50, total=10**6, seconds=20.0)) == []


def test_without_a_known_stop_nothing_is_said() -> None:
    assert told(metrics(101), pod=NO_POD) == []
