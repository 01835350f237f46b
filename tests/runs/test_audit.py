"""The audit shows everything that costs money, and whose it is."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.leases.model_cloud import PLAIN
from trainyard.clouds.protocol import Account, CostItem
from trainyard.config import Places
from trainyard.errors import CloudUnknown, StoreError
from trainyard.runs.records import stores
from trainyard.runs.verbs import atwork, gc
from trainyard.runs.verbs.account import audit
from trainyard.stacks import facade
from trainyard.storage import objects
from trainyard.storage.manifest import ResultKey

ITEMS = [
    CostItem("pod", "p1", "ty-x", 0.94, True),
    CostItem("stopped pod", "p2", "theirs", 0.0, False),
    CostItem("disk", "p2", "theirs (disk)", 0.0274, False),
    CostItem("volume", "vol1", "data", 7 / 730, False),
    CostItem("volume", "vol2", "other", 14 / 730, False),
]


class Ui:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.console = SimpleNamespace(print=lambda table: None)

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "Pulumi.runpod.yaml").write_text("config:\n  trainyard:cloud: runpod\n  trainyard:volume: vol1\n")
    monkeypatch.setattr(facade, "outputs", lambda stack: {})
    one = replace(PLAIN, listings=1)
    cloud = SimpleNamespace(name="runpod", costs=lambda: ITEMS, account=lambda: Account(20.0, 0.94, 12.5), capabilities=one)
    places = Places(tmp_path, tmp_path / "h", tmp_path / "o", tmp_path / "s")
    return SimpleNamespace(cloud=lambda name: cloud, places=places, ui=Ui(), the_cloud=cloud, stack=lambda name: name, env={})


def test_pods_stopped_pods_disks_and_volumes_are_summed_by_hour_and_month(context: Any) -> None:
    assert audit(context, "runpod", as_json=False) == 0
    total = sum(item.per_hour or 0 for item in ITEMS)
    assert context.ui.lines[0].splitlines()[1] == "$0.9400/h  $686.20/month  ours  pod p1  ty-x"
    assert [context.ui.lines[0].splitlines()[-1], *context.ui.lines[1:]] == [
        f"in all ${total:.4f}/h, ${total * 730:.2f} a month",
        "billed for pods in the last 30 days $12.50; balance $20.00, which lasts 21 h",
    ]


def test_the_volume_that_the_settings_name_is_ours(context: Any, capsys: pytest.CaptureFixture[str]) -> None:
    audit(context, "runpod", as_json=True)
    whose = {row["id"]: row["ours"] for row in json.load(io.StringIO(capsys.readouterr().out)) if row["kind"] == "volume"}
    assert whose == {"vol1": True, "vol2": False}


def test_a_cloud_that_does_not_tell_the_balance_is_no_reason_to_fail(context: Any) -> None:
    def refuse() -> None:
        raise CloudUnknown("GraphQL is retired")

    context.the_cloud.account = refuse
    assert audit(context, "runpod", as_json=False) == 0
    assert "GraphQL is retired" in context.ui.lines[-1]


def test_uploads_that_were_never_finished_are_shown_with_their_size(
    context: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(facade, "outputs", lambda stack: {"bucket": "b", "store": "s3"})
    monkeypatch.setattr(stores, "store_of", lambda context, bucket: bucket)
    monkeypatch.setattr(objects, "open_uploads", lambda settings: [objects.OpenUpload("models/ann/a/1/model/w", "u1", 0.0, 573_000_000)])
    monkeypatch.setattr(atwork, "at_work", lambda *_: None)
    audit(context, "runpod", as_json=False)
    assert "over, 573,000,000 bytes that no listing shows, begun 1970-01-01T00:00:00Z: models/ann/a/1/model/w" in context.ui.lines[0]
    audit(context, "runpod", as_json=True)
    last = json.loads(capsys.readouterr().out)[-1]
    assert last["bytes"] == 573_000_000 and last["at_work"] is False


def test_the_uploads_of_runs_that_are_at_work_are_told_from_what_a_crash_has_left(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facade, "outputs", lambda stack: {"bucket": "b", "store": "s3"})
    monkeypatch.setattr(stores, "store_of", lambda context, bucket: bucket)
    plans = [objects.OpenUpload(f"models/ann/{run}/1/_pod.tar", "u", 0.0, 0) for run in ("here", "there", "over")]
    monkeypatch.setattr(objects, "open_uploads", lambda settings: plans)
    monkeypatch.setattr(gc, "alive", lambda context: {ResultKey("ann", "here", 1)})
    monkeypatch.setattr(atwork, "at_work", lambda context, store, key: key if key.run == "there" else None)
    audit(context, "runpod", as_json=False)
    told = {line.rpartition(" ")[2]: line.partition(",")[0] for line in context.ui.lines[0].splitlines()[-3:]}
    ours = "open upload of a run that is at work"
    assert list(told.values()) == [ours, ours, "open upload of a run that is over"]


def test_a_bucket_that_cannot_be_asked_is_said_and_no_reason_to_fail(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stack: str) -> None:
        raise StoreError("the store does not answer")

    monkeypatch.setattr(facade, "outputs", refuse)
    assert audit(context, "runpod", as_json=False) == 0
    assert "does not tell which uploads are open: the store does not answer" in context.ui.lines[0]


def test_a_price_that_is_not_told_is_not_nothing(context: Any, capsys: pytest.CaptureFixture[str]) -> None:
    context.the_cloud.costs = lambda: [CostItem("pod", "p1", "ty-x", None, True), CostItem("pod", "p2", "ty-y", 0.5, True)]
    audit(context, "runpod", as_json=False)
    lines = context.ui.lines[0].splitlines()
    assert lines[1].startswith("price unknown") and "p1" in lines[1]
    assert lines[-1] == "in all $0.5000/h, $365.00 a month, and 1 whose price is not told"
    audit(context, "runpod", as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["per_hour"] is None


def test_an_account_that_is_charged_more_than_is_listed_is_told(context: Any) -> None:
    context.the_cloud.costs = list
    audit(context, "runpod", as_json=False)
    assert context.ui.lines[0].startswith("runpod lists nothing that costs money")
    assert context.ui.lines[-1] == "runpod charges $0.9400/h now, which is more than it lists: see its own console"
