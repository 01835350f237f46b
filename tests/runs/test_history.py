"""How long a run takes is told from like runs: by their amount, with a range, and only of runs that did all of it."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench.estimate import measure as measure_estimates
from trainyard.clouds.protocol import Offer
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.runid import RunId
from trainyard.runs.planning.estimate import Estimate
from trainyard.runs.planning.history import Expectation, expect, measured_runs
from trainyard.runs.records.measured import MEASURED, MeasuredRun, Workload, measure, workload_of
from trainyard.runs.records.parts import PaidPod, RunPod, RunResult, StartedFrom
from trainyard.runs.records.record import RunFolder, RunRecord

WORK = Workload(recipe="lora", model="m", cloud="runpod", gpu="L4", gpu_count=1, unit="steps", amount=100.0)
OFFER = Offer("a", "toy", "L4", 1, 3.6)
NOWHERE = RunFolder(Path("/nowhere"))


def done(amount: float, train: float, **other: Any) -> MeasuredRun:
    return MeasuredRun(workload=replace(WORK, amount=amount, **other), train=train, aside=60.0)


def test_one_like_run_tells_by_its_pace_with_a_wide_range() -> None:
    told = expect([done(100, 1000.0)], replace(WORK, amount=200.0))

    assert told is not None and (told.likely, told.aside, told.runs) == (2060.0, 60.0, 1)
    assert (told.low, told.high) == pytest.approx((2000 / 1.15 + 60, 2300 + 60))


def test_of_several_what_takes_its_time_whatever_the_length_is_told_apart() -> None:
    like = [done(amount, 300 + 2 * amount) for amount in (100, 200, 400)]

    told = expect(like, replace(WORK, amount=1000.0))
    assert told is not None and told.likely == pytest.approx(2300 + 60) and told.runs == 3


@pytest.mark.parametrize(
    "other", [{"gpu": "H100"}, {"gpu_count": 2}, {"model": "n"}, {"recipe": "command"}, {"cloud": "runpod, simulated"}]
)
def test_runs_that_differ_in_more_than_their_amount_tell_nothing(other: dict[str, Any]) -> None:
    assert expect([done(100, 1000.0, **other)], WORK) is None


@pytest.mark.parametrize("amounts", [(5e-324,), (1e-6, 1.2, 1e300, 2.0), (1e-300, 5e-324, 1.01e-300), (5e-324, 1e300, 1e-6, 1.7e308)])
def test_amounts_that_no_run_can_have_had_tell_nothing(amounts: tuple[float, ...]) -> None:
    assert expect([done(amount, 3600.0) for amount in amounts], WORK) is None


def test_a_number_of_steps_beyond_all_numbers_is_none() -> None:
    like = workload_of("lora", {"max_steps": 10**400}, 0, cloud="local", simulated=False, gpu=None, gpu_count=0)
    assert (like.unit, like.amount) == ("run", 1.0)


def test_history_is_read_from_the_ledger_and_nonsense_in_it_is_left_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    good = asdict(done(100, 1000.0))
    for data in (good, {}, {**good, "train": -1.0}, {**good, "train": "x"}, {**good, "workload": {**good["workload"], "amount": 0.0}}):
        ledger.add(RunId("ann", "a"), MEASURED, **data)

    told = expect(measured_runs(ledger), WORK)
    assert told is not None and (told.runs, told.likely) == (1, 1060.0)


def test_the_amount_is_steps_or_passes_over_the_data_and_a_command_is_what_it_says() -> None:
    def of(values: Any, size: int = 10) -> tuple[str, str, float]:
        work = workload_of("r", values, size, cloud="runpod", simulated=False, gpu=None, gpu_count=0)
        return work.model, work.unit, work.amount

    assert of({"base_model": "m", "max_steps": 30, "num_train_epochs": 2}) == ("m", "steps", 30.0)
    assert of({"base_model": "m", "max_steps": -1, "num_train_epochs": 2}) == ("m", "epochs of a byte", 20.0)
    assert of({"command": ["python", "train.py"]}) == ("python train.py", "run", 1.0)


def record(**changes: Any) -> RunRecord:
    values: dict[str, Any] = dict(
        user="ann", label="a", attempt=1, environment="lab", recipe="lora", values={"base_model": "m", "max_steps": 50}, bundle_sha256="0",
        hours=1.0, cloud="runpod", created=0.0, phase="ended", ended=500.0, training_success=True, result=RunResult(), job_seconds=300.0,
        pod=RunPod(pod_id="p", price_per_hour=1.0, gpu="L4", gpu_count=1), pods=[PaidPod("p", 1.0, 0.0, ended=400.0)],
        stages={"up": 60.0, "start": 10.0, "commit": 30.0},
    )  # fmt: skip
    return RunRecord(**{**values, **changes})


def test_a_run_that_succeeded_is_measured_and_one_that_did_a_part_is_not() -> None:
    assert measure(record(), NOWHERE) == MeasuredRun(workload=replace(WORK, amount=50.0), train=300.0, aside=100.0)
    went_on = StartedFrom(run="ann/a/1", path="checkpoints/checkpoint-1", manifest_sha256="0")
    alone = [PaidPod("p", 1.0, 0.0, ended=400.0, by_itself=True)]
    assert (
        measure(record(pods=alone), NOWHERE) is not None
        and measure(record(pods=alone, job_seconds=None, stages={"train": 6.0}), NOWHERE) is None
    )
    for changes in ({"training_success": False}, {"resumed_from": went_on}, {"phase": "committed"}, {"error": "x", "result": None}):
        assert measure(record(**changes), NOWHERE) is None


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        (None, "lease 2 h + 30 min rescue: no like run tells how long it takes; at most $9.25"),
        (Expectation(3000, 3600, 4000, 300, 7), "about 1h00m, $3.70 ($3.08 to $4.11), 5m00s of it not training, from 7 like runs; at most"),
        (Expectation(9000, 9000, 9000, 0, 1), "about 2h30m, MORE than its lease has, $7.40 ($7.40 to $7.40), from 1 like run; at most"),
    ],
)  # fmt: skip
def test_the_estimate_says_what_is_likely_and_on_what_that_rests_beside_the_most(expected: Expectation | None, says: str) -> None:
    assert says in Estimate(OFFER, OFFER, 2.0, 0.5, disks_per_hour=0.1, expected=expected).text()


def test_the_most_is_what_the_dearest_pod_that_is_kept_would_cost() -> None:
    priced = Estimate(OFFER, OFFER, 2.0, 0.5, disks_per_hour=0.1, ceiling=4.0)
    assert priced.most == 10.25 and priced.text().endswith("at most $10.25 (no pod above $4.00/h is kept)")


def test_hours_that_are_paid_ahead_are_the_least_that_a_run_may_cost_at_most() -> None:
    ahead = replace(OFFER, prepaid=3 * OFFER.price_per_hour)
    assert Estimate(ahead, ahead, 2.0, 0.25).most == Estimate(ahead, ahead, 2.9, 0.1).most == 3 * OFFER.price_per_hour
    assert "; 3 h are paid ahead, and what is left when it ends comes back as credits" in Estimate(ahead, ahead, 2.0, 0.25).text()
    assert Estimate(ahead, ahead, 3.0, 0.5, ceiling=4.0).most == 14.0


def test_estimates_on_the_emulated_cloud_come_near_its_bill() -> None:
    began = time.process_time()
    counted, first = measure_estimates(4, seed=1)

    assert all(run.billed <= run.estimate.most for run in (*counted, *first)) and len(first) >= 1
    assert all(abs(run.error) < 0.25 for run in counted), [run.error for run in counted]
    assert time.process_time() - began < 5
