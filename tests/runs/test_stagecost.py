"""What stages cost: together all that was paid, and what of it was not training."""

from __future__ import annotations

from typing import Any

from trainyard.clock import format_time
from trainyard.runs.records.parts import PaidPod, RunPod
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.stagecost import as_costs, by_stage, lines
from trainyard.runs.records.summary import cost


def record(price: float = 3.6, **changes: Any) -> RunRecord:
    """A pod that was paid from 1000 to 1100 s, $0.001 a second."""
    values: dict[str, Any] = dict(
        user="ann", label="a", attempt=1, environment="dev", recipe="lora", values={}, bundle_sha256="0", hours=1.0, created=990.0,
        ended=1120.0, phase="ended", pod=RunPod(pod_id="p", price_per_hour=price), pods=[PaidPod("p", price, 1000.0, ended=1100.0)],
        stages={"up": 15.0, "start": 5.0, "train": 60.0, "commit": 10.0, "destroy": 30.0},
    )  # fmt: skip
    return RunRecord(**{**values, **changes})


def stages(of: RunRecord, now: float = 2000.0) -> tuple[dict[str, float], list[str]]:
    seen = by_stage(of, cost(of, now), now)
    assert abs(sum(stage.cost for stage in seen) - cost(of, now)) < 1e-5
    return {stage.name: stage.seconds for stage in seen}, lines(seen)


def test_stages_make_up_what_was_paid_and_neither_the_wait_for_an_offer_nor_for_a_proof_is_paid() -> None:
    seconds, said = stages(record())
    assert seconds == {"start": 5.0, "train": 60.0, "commit": 10.0, "destroy": 25.0}
    assert said == [
        "cost by stage: start $0.01, train $0.06, commit $0.01, destroy $0.03",
        "not training: 40s of 1m40s, $0.04 of $0.10 (40%)",
    ]


def test_a_training_counts_by_its_own_clock_and_a_pod_that_nobody_drove_was_idle() -> None:
    seconds, _ = stages(record(stages={"up": 5.0, "start": 5.0, "train": 1.0, "destroy": 5.0}, job_seconds=70.0))
    assert seconds == {"up": 5.0, "start": 5.0, "train": 70.0, "destroy": 5.0, "idle": 15.0}


def test_the_stage_that_a_run_is_at_has_the_time_since_until_its_lease_is_over_at_most() -> None:
    lost = RunPod(pod_id="p", price_per_hour=3.6, end=format_time(1050.0))
    seconds, _ = stages(record(pod=lost, pods=[PaidPod("p", 3.6, 1000.0)], ended=None, phase="started", stages={"start": 5.0}))
    assert seconds == {"start": 5.0, "train": 45.0}


def test_pods_that_did_not_boot_cost_the_stage_that_rented_them() -> None:
    both = record(pods=[PaidPod("dead", 36.0, 900.0, ended=990.0), PaidPod("p", 3.6, 1000.0, ended=1100.0)])
    assert as_costs(by_stage(both, cost(both), 2000.0))["up"] == 0.9


def test_what_costs_nothing_is_told_in_time_and_a_run_without_a_pod_says_nothing() -> None:
    _, said = stages(record(price=0.0))
    assert said == ["time by stage: start 5s, train 1m00s, commit 10s, destroy 25s", "not training: 40s of 1m40s (40%)"]
    assert stages(record(pod=RunPod(), pods=[], stages={"up": 3.0}))[1] == []
