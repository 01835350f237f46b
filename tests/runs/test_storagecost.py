"""What results and data cost where they lie is told beside a run's cost: by list price, from like runs, and never as $0 when not known."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.gitops_yard import GitRoad
from tests.runs.test_history import OFFER, WORK, done, record
from trainyard.clouds.protocol import CostItem
from trainyard.clouds.runpod import catalog
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops import plan
from trainyard.runs.planning.estimate import Estimate
from trainyard.runs.planning.history import ResultSize, expect_size
from trainyard.runs.records.measured import MEASURED
from trainyard.runs.records.parts import RunBucket, RunResult
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.storagecost import dollars, storage_cost
from trainyard.runs.records.summary import summarize
from trainyard.storage.prices import RUNPOD, price_of

AMAZON = RunBucket("b", "aws")
GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("kind", "endpoint", "title"),
    [
        ("aws", None, "Amazon S3"),
        ("s3", "https://s3.eu-central-1.amazonaws.com", "Amazon S3"),
        ("r2", "https://0a1b.eu.r2.cloudflarestorage.com", "Cloudflare R2"),
        ("s3", "https://s3.us-west-004.backblazeb2.com", "Backblaze B2"),
        ("s3", "https://storage.googleapis.com", "Google Cloud Storage"),
        ("runpod", "https://s3api-eu-ro-1.runpod.io", "RunPod network volume"),
        ("local", "http://127.0.0.1:4000", "the local store"),
    ],
)
def test_a_store_is_priced_by_its_kind_and_host(kind: str, endpoint: str | None, title: str) -> None:
    price = price_of(kind, endpoint)
    assert price is not None and price.title == title


@pytest.mark.parametrize("endpoint", ["https://minio.example.com", "https://amazonaws.com.example.com", "http://127.0.0.1:9000", None])
def test_any_other_store_has_no_known_price_and_none_is_told(endpoint: str | None) -> None:
    assert price_of("s3", endpoint) is None

    told = storage_cost(RunBucket("b", "s3", endpoint), GIGABYTE)
    assert (told.result_month, told.result_home, told.is_free) == (None, None, False)
    assert "whose prices are not known here: the result of 1.0 GB" in told.text() and "$" not in told.text()


def test_the_result_costs_by_the_month_and_once_on_its_way_home_and_data_at_each_pod() -> None:
    told = storage_cost(AMAZON, 2 * GIGABYTE, like_runs=3, data_bytes=40 * GIGABYTE)

    assert (told.result_month, told.result_home) == pytest.approx((0.046, 0.18))
    assert (told.data_month, told.data_read) == pytest.approx((0.92, 3.6))
    assert told.text() == (
        "Amazon S3, list price: the result of about 2.0 GB, as 3 like runs tell, $0.05 a month, brought home once $0.18; "
        "40.0 GB of data and code kept there $0.92 a month, read by each pod for $3.60"
    )


def test_a_size_that_no_like_run_tells_leaves_the_price_of_a_gigabyte() -> None:
    told = storage_cost(AMAZON, None)
    assert told.text().endswith("no like run tells the size of the result: $0.023 a GB and month, $0.09 a GB brought home")
    assert (told.result_month, told.result_home) == (None, None)


def test_what_backblaze_lets_out_for_nothing_is_not_charged() -> None:
    told = storage_cost(RunBucket("b", "s3", "https://s3.us-west-004.backblazeb2.com"), 10 * GIGABYTE)
    assert (told.result_month, told.result_home) == pytest.approx((0.06, 0.0))


def test_a_network_volume_costs_by_its_own_size_whatever_lies_there() -> None:
    told = storage_cost(RunBucket("vol1", "runpod", "https://s3api-eu-ro-1.runpod.io"), GIGABYTE, volume=(100.0, 7.0))
    assert told.text() == "in network volume vol1 of 100 GB: $7.00 a month, whatever lies there; what is read from it costs nothing"
    assert (told.result_month, told.volume_month) == (0.0, 7.0)
    unknown = storage_cost(RunBucket("vol1", "runpod"), GIGABYTE)
    assert "$0.07 a GB of its size and month at most" in unknown.text() and unknown.volume_month is None
    assert catalog.volume_month(1.0) == RUNPOD.month


def test_the_local_store_costs_nothing_and_nothing_is_said_of_it() -> None:
    told = storage_cost(RunBucket("b", "local", "http://127.0.0.1:1"), GIGABYTE)
    assert told.text() == "" and told.is_free and told.result_month == 0.0


def test_a_small_amount_is_never_told_as_nothing() -> None:
    assert [dollars(amount) for amount in (0.0, 0.0001, 0.0099, 0.01, 1234.5)] == [
        "$0.00",
        "under $0.01",
        "under $0.01",
        "$0.01",
        "$1,234.50",
    ]


def test_the_size_is_the_middle_of_what_like_runs_left_wherever_they_trained() -> None:
    sizes: list[tuple[int | None, dict[str, Any]]] = [
        (100, {}),
        (300, {"gpu": "H100", "cloud": "local"}),
        (200, {"amount": 9.0}),
        (None, {}),
        (10**6, {"model": "other"}),
    ]
    runs = [replace(done(1.0, 1.0), workload=replace(WORK, **other), result_bytes=size) for size, other in sizes]

    assert expect_size(runs, WORK) == ResultSize(200, 3)
    assert expect_size([done(1.0, 1.0)], WORK) is None


def test_storage_is_no_part_of_what_is_reserved() -> None:
    plain = Estimate(OFFER, OFFER, 2.0, 0.5)
    told = replace(plain, storage=storage_cost(AMAZON, 10**15))
    assert (told.most, told.likely) == (plain.most, plain.likely)


def test_a_volume_whose_price_nobody_tells_is_unknown() -> None:
    volume = CostItem("volume", "v", "", None, ours=False)
    assert "network volume v: what it costs a month is not known" in Estimate(OFFER, OFFER, 2.0, 0.5, volume=volume).text()


@pytest.mark.parametrize(("result", "told"), [({"s3_key": "models/a/1/model/", "bytes": GIGABYTE}, 0.023), ({"local_path": "/x"}, None)])
def test_a_run_that_is_over_tells_what_its_result_costs_where_it_lies(tmp_path: Path, result: dict[str, Any], told: float | None) -> None:
    summary = summarize(record(bucket=AMAZON, result=RunResult(**result)), RunFolder(tmp_path))
    assert (summary.storage and summary.storage.result_month) == (told and pytest.approx(told))


def test_a_plan_prices_the_bucket_that_the_keys_open_before_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    road = GitRoad(tmp_path, monkeypatch)
    road.begin()
    road.settings.write_text(road.settings.read_text().replace("bucket: none", "bucket: results-of-ann\n  trainyard:store: aws"))
    env = {**road.context.env, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    context = CommandContext(road.context.places, env, road.context.ui)
    told = replace(done(1.0, 1.0), workload=replace(WORK, recipe="command", model="train.sh"), result_bytes=10 * GIGABYTE)
    context.ledger().add(RunId("ann", "a"), MEASURED, **asdict(told))
    road.write("first.yaml")
    road.commit()

    monkeypatch.setattr(plan, "known_runs", lambda *_: {})  # asks that store
    (row,) = plan.rows(context, plan.look(context))
    assert row.storage is not None, row
    assert (row.storage.store, row.storage.gb_month, row.storage.result_bytes) == ("Amazon S3", 0.023, 10 * GIGABYTE), row
    assert row.most == pytest.approx(2.62, abs=0.01)
    assert (
        "storage: Amazon S3, list price: the result of about 10.0 GB, as 1 like run tells, $0.23 a month, brought home once $0.90"
        in row.says
    )
    assert "<br>storage: Amazon S3" in plan.markdown([row])
