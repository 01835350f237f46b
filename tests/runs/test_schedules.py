"""Files of runs/ with a schedule: one run per due time, the newest alone is caught up, and the next waits for one that is at work."""

from __future__ import annotations

import builtins
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.runs.gitops_yard import GitRoad
from tests.runs.test_identity_and_record import make_record
from trainyard.clock import Clock
from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops import plan, schedule, sync
from trainyard.runs.gitops.runfile import read_run_file
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.parts import RunResult
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import summarize
from trainyard.runs.verbs.train import TrainRequest


class Scheduled(GitRoad):
    """A road on which a run is its record: when it begins and ends is what is tried here."""

    def begin(self) -> None:
        """Make the repository, and play what drives a run."""
        super().begin()
        self.patch(sync, "prepare", self._prepared)
        self.patch(sync, "left_to_its_pod", lambda _context, folder: summarize(folder.load(), folder))
        self.patch(sync, "cancel", lambda _context, run: self._end(self.context.folder(run), cancelled=True))

    def let_train(self) -> None:
        """Let all that is at work end with success."""
        for run in all_runs(self.context.places.runs):
            self._end(RunFolder(run.folder(self.context.places.runs)), cancelled=False)

    def _prepared(self, _context: CommandContext, request: TrainRequest) -> RunFolder:
        record = make_record(user=str(request.user), label=str(request.name), phase="started")
        folder = RunFolder(record.id.folder(self.context.places.runs))
        folder.path.mkdir(parents=True)
        folder.save(record)
        return folder

    def _end(self, folder: RunFolder, *, cancelled: bool) -> None:
        record = folder.load()
        record.phase, record.ended, record.cancelled = "ended", time.time(), cancelled
        record.training_success, record.result = not cancelled, None if cancelled else RunResult(manifest_sha256="0" * 64)
        folder.save(record)


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scheduled:
    made = Scheduled(tmp_path, monkeypatch)
    made.begin()
    return made


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def at(text: str) -> Clock:
    return Clock(now=lambda: moment(text))


def scheduled(road: Scheduled, name: str, *more: str, when: str) -> str:
    """Commit a run file at a moment; return the commit."""
    road.write(name, *more)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("GIT_COMMITTER_DATE", "GIT_AUTHOR_DATE"):
            patch.setenv(variable, f"{when}+0000")
        return road.commit()


def test_each_due_time_after_the_commit_is_one_run_and_missed_ones_are_one_together(road: Scheduled) -> None:
    commit = scheduled(road, "nightly.yaml", 'schedule: "0 3 * * *"', when="2030-01-01T12:00:00")

    early = sync.sync(road.context, clock=at("2030-01-02T02:59:59"))
    (row,) = plan.rows(road.context, plan.look(road.context, at("2030-01-02T02:59:59")))
    first = sync.sync(road.context, clock=at("2030-01-02T03:00:00"))
    same = sync.sync(road.context, clock=at("2030-01-02T17:00:00"))
    road.let_train()
    sync.sync(road.context, clock=at("2030-01-02T18:00:00"))
    after_a_week = sync.sync(road.context, clock=at("2030-01-09T11:00:00"))

    assert not early.started and (row.action, row.run, row.says) == ("scheduled", "", "next due 2030-01-02T03:00:00Z")
    assert first.started == [f"gitops/nightly-{commit}-20300102t0300z"] and same.at_work == first.started and not same.started
    assert after_a_week.started == [f"gitops/nightly-{commit}-20300109t0300z"] and len(all_runs(road.context.places.runs)) == 2


def test_the_next_waits_for_one_that_is_at_work_and_a_change_of_the_file_lets_that_end(road: Scheduled) -> None:
    commit = scheduled(road, "nightly.yaml", 'schedule: "0 3 * * *"', when="2030-01-01T12:00:00")
    sync.sync(road.context, clock=at("2030-01-02T03:00:00"))

    waits = sync.sync(road.context, clock=at("2030-01-03T03:10:00"))
    rows = plan.rows(road.context, plan.look(road.context, at("2030-01-03T03:10:00")))
    scheduled(road, "nightly.yaml", 'schedule: "0 4 * * *"', when="2030-01-03T12:00:00")
    changed = sync.sync(road.context, clock=at("2030-01-03T13:00:00"))
    road.let_train()
    begins = sync.sync(road.context, clock=at("2030-01-04T04:10:00"))

    assert waits.waiting == [f"gitops/nightly-{commit}-20300103t0300z"] and not waits.started
    assert [row.action for row in rows] == ["waits"] and "its earlier run, here: started" in rows[0].says
    assert rows[0].says.endswith("next due 2030-01-04T03:00:00Z")
    assert not changed.cancelled and not changed.started
    assert len(begins.started) == 1 and begins.started[0].endswith("-20300104t0400z")


def test_what_waits_for_a_file_with_a_schedule_runs_once_for_each_of_its_runs(road: Scheduled) -> None:
    road.write("a-link.yaml", "after: nightly")
    commit = scheduled(road, "nightly.yaml", 'schedule: "0 3 * * *"', when="2030-01-01T12:00:00")

    none = sync.sync(road.context, clock=at("2030-01-02T01:00:00"))
    sync.sync(road.context, clock=at("2030-01-02T03:00:00"))
    road.let_train()
    linked = sync.sync(road.context, clock=at("2030-01-02T05:00:00"))
    road.let_train()
    again = sync.sync(road.context, clock=at("2030-01-03T03:00:00"))

    assert not none.started and not none.waiting
    assert linked.started == [f"gitops/a-link-{commit}-20300102t0300z"]
    assert again.started == [f"gitops/nightly-{commit}-20300103t0300z"] and again.waiting == [f"gitops/a-link-{commit}-20300103t0300z"]


def test_a_removed_file_cancels_its_run_and_two_schedules_before_one_file_are_refused(road: Scheduled) -> None:
    scheduled(road, "nightly.yaml", 'schedule: "0 3 * * *"', when="2030-01-01T12:00:00")
    begun = sync.sync(road.context, clock=at("2030-01-02T03:00:00"))
    (road.root / "runs" / "nightly.yaml").unlink()
    road.commit()
    assert sync.sync(road.context, clock=at("2030-01-02T03:10:00")).cancelled == begun.started

    road.write("a.yaml", 'schedule: "0 3 * * *"')
    road.write("b.yaml", 'schedule: "0 4 * * *"')
    road.write("c.yaml", "after: [a, b]")
    road.commit()
    with pytest.raises(UserError, match="'a' and 'b' have different schedules") as told:
        plan.look(road.context)
    assert str(told.value.where).startswith("runs/c.yaml:4:")


def test_a_merge_counts_from_when_the_branch_got_it(road: Scheduled) -> None:
    road.git("checkout", "-q", "-b", "topic")
    scheduled(road, "nightly.yaml", 'schedule: "0 3 * * *"', when="2030-01-01T12:00:00")
    road.git("checkout", "-q", "main")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_COMMITTER_DATE", "2030-01-05T12:00:00+0000")
        road.git("merge", "-q", "--no-ff", "-m", "merge", "topic")

    assert not sync.sync(road.context, clock=at("2030-01-05T13:00:00")).started
    assert len(sync.sync(road.context, clock=at("2030-01-06T03:00:00")).started) == 1


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('schedule: "0 3 * *"', "runs/a.yaml:2:11: 'schedule' must have five fields"),
        ('schedule: "0 25 * * *"', "runs/a.yaml:2:11: 'schedule' '0 25 * * *': bad hour"),
        ('schedule: "0 3 31 2 *"', "runs/a.yaml:2:11: 'schedule' '0 3 31 2 *': bad day-of-month"),
        ('schedule: "0 3 * * *"\ntime_zone: Europe/Nowhere', "runs/a.yaml:3:12: 'time_zone': 'Europe/Nowhere' is no time zone"),
        ("time_zone: Europe/Berlin", "runs/a.yaml:2:1: 'time_zone' says nothing without 'schedule'"),
    ],
)
def test_a_schedule_that_is_none_is_refused_with_its_place(lines: str, says: str) -> None:
    with pytest.raises(UserError) as told:
        read_run_file(f"stack: a\n{lines}\n", "runs/a.yaml")
    assert str(told.value).startswith(says)


def test_a_zone_moves_its_clock_and_a_due_time_is_never_lost_or_doubled() -> None:
    berlin = schedule.read_schedule("30 2 * * *", "Europe/Berlin")
    skipped = berlin.newest(moment("2030-03-31T02:00"), 0.0)  # 02:30 does not come that night: it is due when the clock has moved
    before = berlin.newest(moment("2030-03-31T00:59"), 0.0)
    autumn = {berlin.newest(moment(f"2030-10-27T{hour:02}:45"), 0.0) for hour in range(1, 12)}

    assert (
        before == moment("2030-03-30T01:30") and skipped is not None and moment("2030-03-31T01:00") <= skipped <= moment("2030-03-31T01:30")
    )
    assert len(autumn) == 1, "the hour that comes twice holds one due time"
    utc = schedule.read_schedule("0 3 * * 1", None)
    assert utc.newest(moment("2030-01-07T03:00"), 0.0) == moment("2030-01-07T03:00")
    assert utc.newest(moment("2030-01-07T03:00"), moment("2030-01-07T03:00")) is None and utc.next(moment("2030-01-07T03:00")) == moment(
        "2030-01-14T03:00"
    )


def test_without_its_package_a_schedule_is_refused_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name == "cronsim":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError) as told:
        read_run_file('stack: a\nschedule: "0 3 * * *"\n', "runs/a.yaml")
    assert "runs/a.yaml:2:11: a 'schedule' needs the package 'cronsim'" in str(told.value)
    assert told.value.hint and "'trainyard[schedules]'" in told.value.hint
    read_run_file("stack: a\n", "runs/a.yaml")
