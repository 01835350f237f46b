"""`invoke remove`: what is known of a run that has ended goes, and nothing of one that may still cost money or owes its result."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainyard.config import places
from trainyard.errors import Busy, RefusedError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.notes import note_over
from trainyard.runs.records.parts import PaidPod, RunBucket, RunResult
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import remove as verb
from trainyard.runs.verbs.listing import list_runs
from trainyard.runs.verbs.remove import remove

POD = PaidPod("p", 3600.0, accepted=100.0, ended=105.0)


@pytest.fixture
def yard(tmp_path: Path) -> CommandContext:
    """A checkout with nothing in it."""
    return CommandContext(places(tmp_path, {"HOME": str(tmp_path)}), {}, Ui(stream=io.StringIO()))


def ended(yard: CommandContext, attempt: int = 1, **changes: Any) -> RunFolder:
    record = RunRecord(
        user="ann", label="a", attempt=attempt, environment="lab", recipe="lora", values={}, bundle_sha256="0", hours=1.0,
        created=100.0, token="t", phase="ended", ended=105.0, pods=[POD],
    )  # fmt: skip
    folder = RunFolder(record.id.folder(yard.places.runs))
    (folder.path / "bundle").mkdir(parents=True)
    folder.save(replace(record, **changes))
    note_over(yard, folder.load())
    return folder


def said(yard: CommandContext) -> str:
    return str(getattr(yard.ui.console.file, "getvalue", str)())


def test_the_newest_attempt_is_removed_and_its_cost_still_counts(yard: CommandContext) -> None:
    first, second = ended(yard), ended(yard, 2)

    assert remove(yard, "a", result=False, yes=False) == 0
    assert first.path.is_dir() and not second.path.exists()
    assert [(run.run, run.attempt) for run in list_runs(yard).runs] == [("ann/a", 1)]
    assert remove(yard, "ann/a/1", result=False, yes=False) == 0
    assert list_runs(yard).runs == [] and list(yard.places.runs.glob("*/*")) == []
    assert sum(yard.ledger().costs_since(0.0).values()) == 10.0 and [event.kind for event in yard.ledger().events()][-1] == "removed"
    assert not list(yard.places.home.glob("removed-*"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"phase": "started"}, "is not over"),
        ({"phase": "committed"}, "is not over"),
        ({"result": RunResult(local_path="/out", owed=True), "bucket": RunBucket("b"), "training_success": True}, "owed"),
    ],
)
def test_a_run_that_may_cost_money_or_owes_its_result_is_not_removed(yard: CommandContext, changes: dict[str, Any], says: str) -> None:
    folder = ended(yard, **changes)

    with pytest.raises(RefusedError, match=says):
        remove(yard, "a", result=False, yes=True)
    assert folder.load().label == "a" and len(list_runs(yard).runs) == 1


def test_a_run_that_somebody_drives_is_not_removed(yard: CommandContext) -> None:
    folder = ended(yard)

    with folder.driving(), pytest.raises(Busy):
        remove(yard, "a", result=False, yes=True)
    assert folder.path.is_dir()


@pytest.mark.parametrize("code", [0, 7])
def test_the_result_goes_first_and_the_record_stays_while_any_of_it_does(
    yard: CommandContext, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, deleted = ended(yard, bucket=RunBucket("b"), result=RunResult(s3_url="s3://b/x")), []

    def delete(context: CommandContext, stack: str, name: str, *, dry_run: bool, yes: bool) -> int:
        deleted.append((stack, name, dry_run, yes))
        return code

    monkeypatch.setattr(verb, "delete", delete)
    assert remove(yard, "a", result=True, yes=False) == code
    assert deleted == [("lab", "ann/a/1", False, False)] and folder.path.exists() == bool(code)


def test_a_result_without_a_bucket_is_the_persons_own_folder(yard: CommandContext) -> None:
    folder = ended(yard, result=RunResult(local_path="/out/a"))

    with pytest.raises(UserError, match="has no bucket") as told:
        remove(yard, "a", result=True, yes=True)
    assert "/out/a" in str(told.value) and folder.path.is_dir()


def test_what_stays_is_said_with_the_way_to_remove_it(yard: CommandContext) -> None:
    ended(yard, bucket=RunBucket("b"), result=RunResult(s3_url="s3://b/x"))

    remove(yard, "a", result=False, yes=False)
    assert "invoke store.delete ann/a/1 --stack lab" in said(yard)
