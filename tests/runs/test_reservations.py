"""What a run has reserved is free when it is over, though the ledger was not told, and when it was killed before it was whole."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard.config import places
from trainyard.filelock import hold_lock
from trainyard.ledger.limits import SpendLimit
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.records.measured import MEASURED
from trainyard.runs.records.notes import note_over
from trainyard.runs.records.parts import PaidPod, RunPod, RunResult
from trainyard.runs.records.record import Phase, RunFolder, RunRecord
from trainyard.runs.records.reservations import release_ended
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.attach import recover
from trainyard.runs.verbs.remove import remove

RUN = RunId("ann", "a")
DAY = SpendLimit("limit_day", 10.0, 86_400)


@pytest.fixture
def yard(tmp_path: Path) -> CommandContext:
    """A checkout whose ledger knows of one run that it has reserved $4."""
    work = CommandContext(places(tmp_path, {"HOME": str(tmp_path)}), {}, Ui(stream=io.StringIO()))
    work.ledger().add(RUN, "prepared", estimate=4.0, stack="lab", token="t1")
    return work


def kept(yard: CommandContext, phase: Phase = "ended", token: str = "t1") -> RunRecord:
    now = time.time()
    record = RunRecord(
        user="ann", label="a", attempt=1, token=token, environment="lab", recipe="lora", values={}, bundle_sha256="0", hours=1.0,
        phase=phase, created=now - 200, ended=now if phase == "ended" else None, stages={"train": 100.0}, training_success=True,
        result=RunResult(s3_url="s3://b/x"), pod=RunPod(pod_id="p", price_per_hour=36.0), pods=[PaidPod("p", 36.0, now - 100, ended=now)],
    )  # fmt: skip
    folder = RunFolder(record.id.folder(yard.places.runs))
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save(record)
    return record


def left(yard: CommandContext) -> tuple[float, float]:
    rest = yard.ledger().left_of([DAY])[0]
    return round(rest.spent, 2), rest.committed


def test_a_run_whose_end_the_ledger_was_not_told_costs_what_it_has_cost(yard: CommandContext) -> None:
    kept(yard)

    assert left(yard) == (0.0, 4.0)
    assert (release_ended(yard), release_ended(yard)) == (1, 0)
    assert left(yard) == (1.0, 0.0)


def test_what_is_at_work_or_another_run_of_the_name_keeps_what_it_has_reserved(yard: CommandContext) -> None:
    record = kept(yard, "started")
    assert release_ended(yard) == 0
    RunFolder(record.id.folder(yard.places.runs)).save(replace(record, phase="ended", ended=time.time(), token="other"))
    assert release_ended(yard) == 0
    RunFolder(record.id.folder(yard.places.runs)).save(replace(record, phase="ended", ended=time.time()))
    with RunFolder(record.id.folder(yard.places.runs)).driving():
        assert release_ended(yard) == 0
    assert left(yard) == (0.0, 4.0)


def test_recover_frees_what_was_reserved_by_a_process_that_was_killed_before_its_run_was_whole(yard: CommandContext) -> None:
    name = yard.places.runs / "ann" / "a"
    assert release_ended(yard) == 0, "of another checkout, for all that is known here"
    (name / ".new-t1").mkdir(parents=True)
    with hold_lock(name / "lock"):
        assert release_ended(yard) == 0, "it is being written"

    assert recover(yard) == []
    assert left(yard) == (0.0, 0.0) and "nothing to recover" not in yard.ui.console.file.getvalue()  # type: ignore[attr-defined]
    yard.ledger().add(RUN, "prepared", estimate=4.0, stack="lab", token="t1")
    assert left(yard) == (0.0, 4.0), "begun again, under the same token"


def test_an_end_that_is_told_twice_stands_once_and_counts_as_one_like_run(yard: CommandContext) -> None:
    record = kept(yard)
    note_over(yard, record)
    note_over(yard, record)

    assert [event.kind for event in yard.ledger().events(RUN)] == ["prepared", "ended", MEASURED] and left(yard) == (1.0, 0.0)


def test_a_run_that_is_removed_leaves_its_cost_and_nothing_reserved(yard: CommandContext) -> None:
    kept(yard)
    assert remove(yard, "a", result=False, yes=True) == 0

    assert left(yard) == (1.0, 0.0)


def test_a_clock_that_is_set_back_before_a_runs_end_leaves_nothing_reserved(yard: CommandContext, monkeypatch: pytest.MonkeyPatch) -> None:
    record, now = kept(yard), time.time()
    monkeypatch.setattr("trainyard.ledger.ledger.time.time", lambda: now - 40_000)
    note_over(yard, replace(record, created=now - 40_000))

    assert left(yard)[1] == 0.0
