"""What a run waits for: judged from plain data, and from how runs stand here and in buckets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.runs.test_identity_and_record import make_record
from trainyard.runs.planning.waiting import Predecessor, cycle, in_order, readiness
from trainyard.runs.records.parts import RunResult
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.verbs.known import KnownRun, known_here, predecessor_of


def test_a_run_is_ready_when_all_it_waits_for_succeeded_and_broken_by_any_that_is_over_without() -> None:
    done, open_, bad = Predecessor("a", "succeeded"), Predecessor("b", "pending", "at work"), Predecessor("ann/c", "broken", "failed")

    assert readiness([]).state == readiness([done]).state == "ready" and str(readiness([done])) == ""
    waits, broken = readiness([done, open_]), readiness([done, open_, bad])

    assert (waits.state, str(waits), waits.way_out()) == ("waits", "waits for b (at work)", "")
    assert (broken.state, str(broken)) == ("broken", "will not begin: ann/c (failed)") and "invoke resume ann/c" in broken.way_out()


def test_a_cycle_is_told_as_each_waits_for_the_next_and_an_order_keeps_what_needs_no_change() -> None:
    assert cycle({"a": ["b"], "b": ["c"], "c": ["a"], "d": []}) in {("a", "b", "c", "a"), ("b", "c", "a", "b"), ("c", "a", "b", "c")}
    assert cycle({"d": ["d"]}) == ("d", "d") and cycle({"a": ["b", "c"], "b": ["c"]}) == ()
    assert in_order({"a": ["b"], "b": [], "c": ["a"]}) == ["b", "a", "c"]


def standing(tmp_path: Path, **changes: object) -> KnownRun:
    record: RunRecord = make_record(phase="ended", ended=time.time())
    for name, value in changes.items():
        setattr(record, name, value)
    folder = RunFolder(record.id.folder(tmp_path))
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save(record)
    return known_here(record.id, folder)


RESULT = RunResult(manifest_sha256="0" * 64)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"training_success": True, "result": RESULT}, "succeeded"),
        ({"training_success": True, "result": RESULT, "phase": "committed"}, "pending"),
        ({"training_success": False, "result": RESULT}, "broken"),
        ({"cancelled": True}, "broken"),
        ({"lost": True, "resumes": 1}, "pending"),
        ({"lost": True, "resumes": 0}, "broken"),
        ({"error_code": 130, "error": "interrupted"}, "pending"),
    ],
)
def test_only_a_committed_success_lets_what_waits_begin(changes: dict[str, object], state: str, tmp_path: Path) -> None:
    assert predecessor_of("a", standing(tmp_path, **changes)).state == state
    assert predecessor_of("a", None).state == "pending"
