"""The cloud's bill of a run's pods: asked for after their end, filled in when it comes late, and said where it is another than ours."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.leases.model_cloud import ModelCloud
from trainyard.config import places
from trainyard.errors import CloudUnknown
from trainyard.runs.context import CommandContext
from trainyard.runs.records import billing, bills
from trainyard.runs.records.bills import RunBill, bill_of
from trainyard.runs.records.notes import note_over
from trainyard.runs.records.parts import PaidPod, RunPod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import last_lines, summarize
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.costs import costs, lines
from trainyard.runs.verbs.latebills import fill_in

HOUR = 3600.0


class Yard:
    """A checkout with a run of two pods that cost $1 each, over for so many hours, and the cloud that they were on."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.context = CommandContext(places(root, {"HOME": str(root)}), {}, Ui(stream=io.StringIO()))
        self.cloud = ModelCloud(root / "cloud")
        monkeypatch.setattr(CommandContext, "cloud_of", lambda *_: self.cloud)

    def run(self, *, over_for: float) -> RunFolder:
        """Keep the run."""
        ended = time.time() - over_for
        record = RunRecord(
            user="ann", label="a", attempt=1, environment="lab", recipe="lora", values={}, bundle_sha256="0", hours=1.0, cloud="runpod",
            created=ended - 2 * HOUR, phase="ended", ended=ended, pod=RunPod(pod_id="p2", price_per_hour=1.0),
            pods=[PaidPod("p1", 1.0, ended - 2 * HOUR, ended=ended - HOUR), PaidPod("p2", 1.0, ended - HOUR, ended=ended)],
        )  # fmt: skip
        folder = RunFolder(record.id.folder(self.context.places.runs))
        folder.path.mkdir(parents=True)
        folder.save(record)
        note_over(self.context, record)
        return folder

    def fill(self) -> None:
        """Ask as another command does, a good while later."""
        (self.context.places.home / "bills").unlink(missing_ok=True)
        fill_in(self.context)


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    return Yard(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("billed", "whole", "differs"),
    [(10.4, True, False), (10.6, True, True), (9.4, True, True), (9.4, False, False), (10.6, False, True)],
)
def test_a_difference_is_said_above_five_percent_and_a_bill_that_may_grow_is_not_too_little(
    billed: float, whole: bool, differs: bool
) -> None:
    assert RunBill(billed, 10.0, whole).differs is differs
    assert RunBill(0.02, 0.0, True).differs is False


def test_a_bill_that_comes_late_is_filled_in_and_said_where_it_is_another(yard: Yard) -> None:
    folder = yard.run(over_for=0.5 * HOUR)
    yard.cloud.bills = {"p1": 0.0, "p2": 0.0}
    yard.fill()
    assert bill_of(folder.load()) is None, "nothing, so soon, is a bill that is not there yet"

    record = folder.load()
    record.pods = [bills._with_bill(pod, 0.0, time.time() - HOUR) for pod in record.pods]
    folder.save(record)
    yard.cloud.bills = {"p1": 1.01, "p2": 1.50}
    yard.fill()
    bill = bill_of(folder.load())
    assert bill == RunBill(2.51, 2.0, False) and bill.differs

    told = last_lines(summarize(folder.load(), folder), None)
    assert "the bill is another: $2.51 billed by the cloud so far, $2.00 reckoned here" in told
    assert '"billed": 2.51' in folder.summary.read_text()
    report = costs(yard.context, None, "user")
    assert (report.billed, report.computed, report.parts[0].billed) == (2.51, 2.0, 2.51)
    assert "billed by clouds: $2.51, where $2.00 are reckoned" in list(lines(report))


def test_a_bill_is_whole_some_hours_after_the_end_and_not_asked_for_again(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = yard.run(over_for=7 * HOUR)
    yard.cloud.bills = {"p1": 1.0, "p2": 0.0}
    yard.fill()
    bill = bill_of(folder.load())
    assert bill == RunBill(1.0, 2.0, True) and bill.differs, "by now nothing is a bill, too"
    assert [event.data["whole"] for event in yard.context.ledger().events(kind=billing.BILLED)] == [True]

    monkeypatch.setattr(yard.cloud, "billed", refuse)
    yard.fill()
    assert yard.context.ledger().unbilled(billing.BILLED, 0.0, 9) == []


def refuse(pod_id: str) -> float:
    raise CloudUnknown("503")


def hang(pod_id: str) -> float:
    time.sleep(0.5)
    return 1.0


@pytest.mark.parametrize("cloud", [refuse, hang, lambda _: None])
def test_a_cloud_that_tells_no_bill_delays_nothing_and_changes_nothing(
    cloud: Callable[[str], Any], yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = yard.run(over_for=7 * HOUR).load()
    monkeypatch.setattr(yard.cloud, "billed", cloud)
    began = time.monotonic()

    assert not billing.ask(yard.context, record, patience=0.05) and bill_of(record) is None
    assert time.monotonic() - began < 0.4
