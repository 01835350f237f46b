"""Progress, cost, estimate and ledger say what is true."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trainyard.clouds.absence import EndedPod, Proof
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.errors import NoCapacity, RefusedError
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.limits import SpendLimit
from trainyard.runs.planning.estimate import estimate
from trainyard.runs.planning.limits import check_limits, limits_of, price_ceiling
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.parts import PaidPod, RunPod, RunResult, StartedFrom
from trainyard.runs.records.pods import note_bill, note_deleted, note_ended, note_gone, unproved_pods
from trainyard.runs.records.progress import Metrics, ProgressLine, duration
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stackresources import POD
from trainyard.runs.records.summary import cost, last_lines, summarize
from trainyard.runs.ui import Ui
from trainyard.settings.table import StackSettings

RUN = RunId("ann", "a")


class OneOffer:
    """What an estimate asks of a cloud."""

    name = "toy"

    def __init__(self, offers: list[Offer]) -> None:
        self.found = offers

    def offers(self, query: OfferQuery) -> list[Offer]:
        return self.found

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        return 0.0


def one_offer(offers: list[Offer]) -> Any:
    return OneOffer(offers)


def offer(price: float) -> Offer:
    return Offer("o", "toy", "H100", 8, price)


def limits(**settings: Any) -> list[SpendLimit]:
    return limits_of(StackSettings(**settings), stack="toy", user="ann")


def record(**changes: Any) -> RunRecord:
    values = dict(
        user="ann", label="a", attempt=1, environment="local", recipe="lora", values={}, bundle_sha256="0", hours=1.0, created=100.0
    )
    return RunRecord(**{**values, **changes})


def test_a_figure_that_is_no_number_is_none_and_no_line_breaks_the_reader() -> None:
    metrics = Metrics()
    odd = b'{"step": 2, "loss": NaN, "tokens_per_second": Infinity}'
    for line in (b'{"step": 1, "loss": 2.0}', odd, b'{"step": Infinity}', b"[1]", b'{"step": "x"}', b"{"):
        metrics.take(line)

    assert (metrics.step, metrics.loss, metrics.first_loss, metrics.tokens_per_second) == (2, None, 2.0, None)


def test_rows_that_did_not_reach_the_loss_stand_in_the_summary(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    data = {"rows": 9, "cut": 2, "dropped": 1, "flawed": 0, "not_learnt": 0}
    folder.metrics.write_text(json.dumps({"data": data}) + "\n" + json.dumps({"step": 1, "loss": 1.0}) + "\n")
    summary = summarize(record(), folder)

    assert summary.rows == data and summary.steps_done == 1
    assert "rows: 9 read, 2 cut, 1 dropped; data-report.json names them" in last_lines(summary, None)
    folder.metrics.write_text(json.dumps({"data": {**data, "cut": 0, "dropped": 0}}) + "\n")
    assert not [line for line in last_lines(summarize(record(), folder), None) if line.startswith("rows:")]


def test_metrics_give_step_loss_and_the_time_left() -> None:
    metrics = Metrics()
    for step in (1, 2, 3):
        metrics.take(
            json.dumps({"time": 100.0 + step * 2, "step": step, "total_steps": 10, "loss": 5.0 - step, "tokens": step * 7}).encode()
        )

    assert (metrics.step, metrics.total, metrics.first_loss, metrics.loss, metrics.tokens) == (3, 10, 4.0, 2.0, 21)
    assert metrics.eta() == pytest.approx(14.0)


def test_lines_of_an_earlier_attempt_tell_how_far_it_was_and_nothing_of_pace_and_plan(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    lines = [{"time": 10.0 + step, "step": step, "total_steps": 9100, "loss": 5.0} for step in range(1, 41)]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    began = StartedFrom(run="ann/a/1", path="checkpoints/checkpoint-40", manifest_sha256="0")
    resumed = record(attempt=2, resumed_from=began, pod=RunPod(created_epoch=5000.0))

    summary = summarize(resumed, folder)
    assert (summary.steps_done, summary.steps_planned) == (40, 0) and ": 40 steps, loss" in last_lines(summary, None)[0]
    screen = io.StringIO()
    with ProgressLine(Ui(stream=screen), lambda: 0.0, since=5000.0) as progress:
        progress.feed(folder.metrics.read_bytes())
        assert screen.getvalue() == "" and progress.metrics.eta() is None
        for step in (41, 42):
            progress.feed(json.dumps({"time": 5000.0 + step, "step": step, "total_steps": 80}).encode() + b"\n")
        assert progress.metrics.eta() == pytest.approx(38.0)
    assert "step 41/80" in screen.getvalue() and "40" not in screen.getvalue().split("/")[0]


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"step": null}', b'{"loss": 1}', b"\xff"])
def test_a_line_that_is_no_metrics_object_changes_nothing(line: bytes) -> None:
    metrics = Metrics()

    assert not metrics.take(line)
    assert metrics == Metrics()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.6, "1m00s"), (200, "3m20s"), (3720, "1h02m"), (-3, "0s")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_cost_counts_from_the_create_call_to_the_confirmed_end() -> None:
    done = record(pod=RunPod(price_per_hour=3.6, created_epoch=1000.0), ended=2000.0)

    assert cost(done) == pytest.approx(1.0)
    assert cost(record()) == 0.0


def test_the_estimate_includes_the_rescue_time() -> None:
    told = estimate(one_offer([offer(20.0)]), StackSettings(rescue_minutes=30, gpu=("H100",)), 2.0)

    assert told.most == pytest.approx(50.0)
    assert "at most $50.00" in told.text()


def test_the_estimate_names_the_dearest_offer_that_may_be_taken() -> None:
    offers = [Offer("a", "toy", "A4000", 1, 0.2), Offer("b", "toy", "H100", 1, 3.0), Offer("c", "toy", "L40", 1, 1.0)]

    told = estimate(one_offer(offers), StackSettings(), 2.0)

    assert told.most == pytest.approx(3.0 * 2.5)
    assert told.text().startswith("1x A4000 at $0.20/h (where that is taken up to 1x H100 at $3.00/h), lease")
    assert estimate(one_offer(offers), StackSettings(avoid_offers=("b",)), 2.0).most == pytest.approx(2.5)
    assert estimate(one_offer(offers), StackSettings(only_offers=("a",)), 2.0).most == pytest.approx(0.5)


def test_no_pod_is_kept_at_a_price_that_estimate_max_price_or_a_blocking_limit_forbids(tmp_path: Path) -> None:
    ledger, told = Ledger(tmp_path / "l.db"), estimate(one_offer([offer(2.0)]), StackSettings(), 2.0)

    assert 2.0 < price_ceiling(told, StackSettings(disk_gb=100), [], ledger) < 2.1
    assert price_ceiling(told, StackSettings(max_price=2.0), [], ledger) == 2.0
    assert price_ceiling(told, StackSettings(), limits(limit_day=5.0), ledger) == 2.0
    assert price_ceiling(told, StackSettings(), limits(limit_day=5.0, limit_action="warn"), ledger) > 2.0


def test_what_costs_nothing_reserves_nothing(tmp_path: Path) -> None:
    told = estimate(one_offer([offer(0.0)]), StackSettings(), 2.0)

    assert price_ceiling(told, StackSettings(disk_gb=200), [], Ledger(tmp_path / "l.db")) == 0.0


def test_limits_count_runs_that_are_alive_or_were_killed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger.add(RUN, "prepared", estimate=60.0)
    told = estimate(one_offer([offer(20.0)]), StackSettings(), 2.0)

    with pytest.raises(RefusedError, match=r"\$0\.00 spent, \$60\.00 may still go to runs that have not ended"):
        check_limits(told, limits(limit_day=100), ledger, None)
    ledger.add(RUN, "ended", cost=1.0)
    ledger.set_cost(RUN, time.time(), 1.0)
    assert check_limits(told, limits(limit_day=100), ledger, None) == []


def test_every_pod_of_a_run_counts_at_its_own_price_and_the_wait_for_the_proof_does_not() -> None:
    done = record(pods=[
        PaidPod("p1", 3.6, 1000.0, ended=2000.0),
        PaidPod("p2", 7.2, 2000.0, ended=2500.0),
    ], ended=9999.0)  # fmt: skip

    assert cost(done) == pytest.approx(2.0)


def test_a_pod_ends_for_the_bill_when_it_was_deleted_or_its_lease_was_over_not_when_somebody_looked() -> None:
    run = record(pods=[PaidPod(p, 1.0, 1000.0) for p in ("p1", "p2", "p3")])
    note_deleted(run, 1500.0, [{"type": POD, "id": "p2"}, {"type": POD, "id": "p3"}, {"type": POD, "id": "p1", "pendingReplacement": True}])
    proof = Proof(ended=(EndedPod("p1", 9000.0, False), EndedPod("p2", 9000.0, False), EndedPod("p3", 1200.0, True)))

    assert cost(run, 10_000.0) == pytest.approx((500 + 2 * 9000) / 3600), "alive, for all that is known"
    run.pod = RunPod(end="1970-01-01T00:50:00Z")
    assert cost(run, 10_000.0) == pytest.approx((500 + 2 * 2000) / 3600), "nobody has looked since, and a lease ends by itself"
    note_ended(run, proof, "1970-01-01T00:50:00Z")

    assert [pod.ended for pod in run.pods] == [1500.0, 3000.0, 1200.0]
    assert unproved_pods(run) == []


def test_a_pod_that_finished_by_itself_is_paid_for_as_long_as_the_cloud_says_whatever_its_clock() -> None:
    run = record(pods=[PaidPod("p1", 1.0, 1000.0), PaidPod("p2", 1.0, 1000.0)], pod=RunPod(pod_id="p1"))
    note_gone(run, datetime.fromtimestamp(1500.0, UTC))
    note_ended(run, Proof(ended=(EndedPod("p1", 9000.0, False, lived=480.0), EndedPod("p2", 1300.0, True, lived=9999.0))), None)

    assert [pod.ended for pod in run.pods] == [1480.0, 1300.0]


@pytest.mark.parametrize(("cloud", "ended"), [("vast", 1500.0), ("jarvislabs", 8000.0)])
def test_a_pod_that_committed_alone_is_paid_until_somebody_ends_it_where_it_cannot_end_itself(cloud: str, ended: float) -> None:
    run = record(pods=[PaidPod("p1", 1.0, 1000.0)], pod=RunPod(pod_id="p1"), cloud=cloud)
    note_gone(run, datetime.fromtimestamp(1500.0, UTC))
    note_deleted(run, 8000.0, [])
    note_ended(run, Proof(ended=(EndedPod("p1", 8010.0, False),)), "1970-01-01T02:50:00Z")

    assert [pod.ended for pod in run.pods] == [ended]


@pytest.mark.parametrize(("dollars", "ended"), [(None, 4600.0), (2.0, 8200.0)])
def test_a_pod_that_somebody_else_has_ended_after_its_lease_is_paid_to_its_lease_or_by_the_clouds_bill(
    dollars: float | None, ended: float
) -> None:
    run = record(pods=[PaidPod("p1", 1.0, 1000.0)], pod=RunPod(pod_id="p1", end="1970-01-01T01:16:40Z"), cloud="prime")
    assert cost(run, 9000.0) == pytest.approx(8000 / 3600), "nobody has looked: on the bill for all that is known"
    note_deleted(run, 9000.0, [])
    note_ended(run, Proof(ended=(EndedPod("p1", 9010.0, False),)), run.pod.end, lambda _: dollars)

    assert [pod.ended for pod in run.pods] == [ended]


@pytest.mark.parametrize(("dollars", "ended"), [(None, 1500.0), (0.1, 1500.0), (1.0, 4600.0), (9.0, 9000.0)])
def test_a_pod_that_was_to_end_itself_costs_no_less_than_is_on_the_clouds_bill(dollars: float | None, ended: float) -> None:
    run = record(pods=[PaidPod("p1", 1.0, 1000.0)], pod=RunPod(pod_id="p1"))
    note_gone(run, datetime.fromtimestamp(1500.0, UTC))
    elsewhere = replace(run, pods=list(run.pods))
    note_bill(elsewhere, lambda _: dollars)
    assert [pod.deleted for pod in elsewhere.pods] == [max(1500.0, 1000 + 3600 * (dollars or 0))]
    note_ended(run, Proof(ended=(EndedPod("p1", 9000.0, False),)), None, lambda _: dollars)

    assert [pod.ended for pod in run.pods] == [ended]


def test_no_offer_is_said_before_anything_is_rented() -> None:
    with pytest.raises(NoCapacity, match=r"toy has no offer for 2x H100 or A100 at \$3/h or less"):
        estimate(one_offer([]), StackSettings(gpu=("H100", "A100"), gpu_count=2, max_price=3), 1.0)


@pytest.mark.parametrize(
    ("settings", "says", "advises"),
    [
        (StackSettings(regions=("EU",)), "a pod without GPU in EU now", "loosen 'regions'."),
        (StackSettings(gpu=("H100",)), "1x H100 now", "add another GPU to 'gpu'."),
        (
            StackSettings(gpu=("H100",), max_price=1, tier="SECURE", min_vram_gb=40),
            "in tier SECURE",
            "raise 'max_price', or loosen 'tier' or 'min_vram_gb'.",
        ),
        (StackSettings(cloud="local", gpu=("H100",)), "1x H100 now", "or nothing (invoke doctor shows which there are)."),
        (StackSettings(), "a pod without GPU now", "name a GPU with `gpu`."),
    ],
)
def test_without_an_offer_the_settings_that_narrow_the_choice_are_named_and_no_others(
    settings: StackSettings, says: str, advises: str
) -> None:
    with pytest.raises(NoCapacity) as caught:
        estimate(one_offer([]), settings, 1.0)

    assert says in caught.value.message
    assert (caught.value.hint or "").endswith(advises)


def test_a_spending_limit_blocks_what_would_exceed_it_and_warns_where_told_to(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger.set_cost(RUN, time.time() - 3600, 60.0)
    told = estimate(one_offer([offer(20.0)]), StackSettings(), 2.0)

    with pytest.raises(RefusedError, match=r"limit_day is \$100\.00: \$60\.00 spent, this run may add \$50\.00"):
        check_limits(told, limits(limit_day=100), ledger, None)
    assert len(check_limits(told, limits(limit_day=100, limit_action="warn"), ledger, None)) == 1
    assert check_limits(told, limits(limit_day=200), ledger, None) == []


def test_a_limit_that_is_passed_by_less_than_a_cent_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger.set_cost(RUN, time.time() - 3600, 0.0041)
    told = estimate(one_offer([offer(0.9427)]), StackSettings(), 2.0)

    with pytest.raises(RefusedError, match=r"limit_day is \$2\.360: \$0\.004 spent, this run may add \$2\.357"):
        check_limits(told, limits(limit_day=2.36), ledger, None)


def test_the_ledger_keeps_events_in_order_and_one_cost_a_run(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    for kind in ("prepared", "up", "ended"):
        ledger.add(RUN, kind, note=kind)
    ledger.set_cost(RUN, 5.0, 1.0)
    ledger.set_cost(RUN, 5.0, 2.0)

    assert [event.kind for event in ledger.events(RUN)] == ["prepared", "up", "ended"]
    assert sum(ledger.costs_since(0.0).values()) == 2.0
    assert ledger.events(RunId("bob", "a")) == []


def test_the_summary_tells_training_success_apart_from_delivery(tmp_path: Path) -> None:
    kept = record(training_success=True, exit_code=0, phase="trained")

    summary = summarize(kept, RunFolder(tmp_path))

    assert summary.training_success and not summary.success


def test_the_last_lines_name_the_place_and_the_commands(tmp_path: Path) -> None:
    result = RunResult(s3_url="s3://b/models/ann/a/1/model/", s3_key="k", files=3)
    done = record(training_success=True, exit_code=0, phase="ended", result=result)

    lines = last_lines(summarize(done, RunFolder(tmp_path)), "aws s3 sync s3://b/k ./a")

    assert "S3 Location: s3://b/models/ann/a/1/model/" in lines
    assert lines[-2:] == ["invoke download ann/a/1 out/downloads/a", "aws s3 sync s3://b/k ./a"]
    played = summarize(replace(done, pod=RunPod(simulated=True)), RunFolder(tmp_path))
    assert "invoke download ann/a/1 out/downloads/a" in last_lines(played, None), "an emulator alone: the bucket is the person's"
    assert not any("invoke download" in line for line in last_lines(played, None, tmp_path))
    third = summarize(replace(done, attempt=3), RunFolder(tmp_path))
    assert last_lines(third, None)[-1] == "invoke download ann/a/3 out/downloads/a.3", "files of two attempts are never mixed"


def test_an_api_that_is_not_the_clouds_own_is_said_in_the_summary(tmp_path: Path) -> None:
    through = record(training_success=True, phase="ended", pod=RunPod(api_address="https://proxy.example/v2"))

    summary = summarize(through, RunFolder(tmp_path))

    assert "the cloud's API was asked at https://proxy.example/v2, which is not the cloud's own address" in last_lines(summary, None)
    assert not summary.simulated
    assert not any("API" in line for line in last_lines(summarize(record(), RunFolder(tmp_path)), None))


def test_a_training_that_was_told_to_stop_and_saved_has_not_failed(tmp_path: Path) -> None:
    saved = record(training_success=False, exit_code=75, phase="ended", result=RunResult(s3_url="s3://b/k/", s3_key="k"))

    summary = summarize(saved, RunFolder(tmp_path))

    assert summary.stopped and not summary.success and summary.exit_status == 1
    assert last_lines(summary, None)[0].startswith("run ann/a stopped")


def test_a_success_without_any_file_is_told_without_a_command_that_could_not_work(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    told = replace(summarize(record(), folder), s3_url="s3://b/models/a/x/1/", s3_key="k", logs_url="s3://b/logs/a/x/1/", files=0)

    lines = last_lines(told, "aws s3 sync")

    assert "it left no output; its logs are kept" in lines and "S3 Location: s3://b/logs/a/x/1/" in lines
    assert not [line for line in lines if line.startswith(("invoke download", "aws"))]
