"""The queue: what is submitted is what runs, once, in its turn, whatever becomes of workers."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.gitops_yard import WAITS, GitRoad
from tests.runs.road import STACK
from trainyard.cli import queueverbs, workerverbs
from trainyard.clock import Clock
from trainyard.errors import Busy, LimitReached, RefusedError, UserError
from trainyard.ledger import auditlog
from trainyard.ledger.auditlog import AuditFilter
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.runs.life import detaching
from trainyard.runs.notices.notice import Notice
from trainyard.runs.queue import changes, step
from trainyard.runs.queue.claims import worker_name
from trainyard.runs.queue.look import look
from trainyard.runs.queue.order import QueuePlace
from trainyard.runs.queue.submit import submit
from trainyard.runs.queue.worker import GroupHook, Until, WorkerReport, work
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs import rerun
from trainyard.runs.verbs.history import history_of
from trainyard.runs.verbs.keyed import SUBMIT, start_key
from trainyard.runs.verbs.train import TrainRequest


class QueueRoad(GitRoad):
    """A road with a queue, whose time passes only when it is said."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(base, monkeypatch)
        self.later = 0.0
        self.clock = Clock(lambda: time.time() + self.later, self._pause)

    def _pause(self, seconds: float) -> None:
        self.later += seconds

    def rows(self) -> QueueRows:
        return QueueRows(self.context.ledger().database)

    def submit(self, name: str | None = "a", script: str = WAITS, **asked: Any) -> QueueEntry:
        """Submit a run of a script."""
        self.script.write_text(f"#!/bin/sh\n{script}\n")
        return submit(self.context, TrainRequest(stack=STACK, recipe="command", sets=(f"script={self.script}",), name=name), **asked)

    def work(self, until: Until = "pass", hook: GroupHook | None = None) -> WorkerReport:
        """Let a worker look."""
        return work(self.context, until=until, hook=hook, clock=self.clock)

    def look(self) -> list[QueuePlace]:
        """Return the queue as it stands now."""
        return look(self.context, self.rows(), self.clock.now())

    def entry(self, entry: QueueEntry) -> QueueEntry:
        """Return an entry as it stands now."""
        now = self.rows().entry(entry.id)
        assert now is not None
        return now


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueRoad]:
    made = QueueRoad(tmp_path, monkeypatch)
    yield made
    made.lose_pod()


def test_what_is_submitted_is_begun_left_to_its_pod_and_finished(road: QueueRoad) -> None:
    entry = road.submit()
    assert all_runs(road.context.places.runs) == [] and road.engine.asked == []
    road.script.write_text("#!/bin/sh\nexit 3\n")  # what is run is what was submitted

    first = road.work()
    again = road.work()
    assert road.cloud.alive(), road.said()
    road.let_train()
    road.later += 60
    done = road.work()

    assert first.begun == ["ann/a"] and again.begun == [] and done.over == {"ann/a": "succeeded"}, road.said()
    (run,) = all_runs(road.context.places.runs)
    record = RunFolder(run.folder(road.context.places.runs)).load()
    assert record.entry == entry.id and record.training_success and run.attempt == 1
    assert road.entry(entry).state == "over" and road.entry(entry).outcome == "succeeded" and road.rows().content(entry.id) is None
    assert road.cloud.alive() == [] and road.work("empty").begun == []


def test_a_name_whose_result_is_here_though_nothing_else_is_known_of_it_is_begun_as_its_next_attempt(road: QueueRoad) -> None:
    (road.context.places.root / "out" / "ann" / "a").mkdir(parents=True)
    road.submit()

    assert road.work().begun == ["ann/a"], road.said()
    assert [run.attempt for run in all_runs(road.context.places.runs)] == [2]
    road.let_train()


def test_a_run_that_needs_approval_waits_for_it_and_who_gave_it_is_written_down_and_told(
    road: QueueRoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[Notice] = []
    monkeypatch.setattr(changes, "announce", lambda _, notice: notices.append(notice))
    road.settle("approve: [{cost: 2.5}, {gpus: [H200]}]")
    entry = road.submit()
    assert (entry.approval, entry.approval_why) == ("needed", "it may cost $2.62, $2.5 or more")
    assert not road.work("empty").begun

    with pytest.raises(UserError, match="no run 'other' waits"):
        changes.approve(road.context, "other")
    approved = changes.approve(road.context, "ann/a")
    assert approved.decided_by == changes.person(road.context) and road.work().begun == ["ann/a"]
    with pytest.raises(UserError, match="ann/a has begun"):
        changes.reject(road.context, "a")
    rejected = changes.reject(road.context, road.submit("b").run)
    assert (rejected.state, rejected.outcome, rejected.approval) == ("over", "rejected", "rejected")
    said = ["a waits for approval", "a was approved", "b waits for approval", "b was rejected"]
    assert [notice.title for notice in notices] == [f"run ann/{text} on dev" for text in said]
    assert all(notice.kind == "approval" for notice in notices) and notices[1].data["decided_by"] == changes.person(road.context)
    assert not road.work().begun


def test_rules_and_prices_of_the_moment_decide_whether_a_run_begins_without_a_persons_word(
    road: QueueRoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[Notice] = []
    monkeypatch.setattr(changes, "announce", lambda _, notice: notices.append(notice))
    entry = road.submit()
    road.settle("approve: [{cost: 2.5}]")

    first = road.work("empty")
    waits = road.entry(entry)
    assert (first.begun, first.left, road.engine.asked) == ([], {"ann/a": "to approve"}, [])
    assert (waits.state, waits.approval, waits.approval_why) == ("queued", "needed", "it may cost $2.62, $2.5 or more"), road.said()
    assert [notice.title for notice in notices] == ["run ann/a waits for approval on dev"]

    changes.approve(road.context, "a")
    road.settle("rescue_minutes: 60")
    assert road.work("empty").left == {"ann/a": "to approve"}, "what costs a fifth more was not approved"
    assert changes.approve(road.context, "a").estimate == pytest.approx(3.15, abs=0.01)
    assert road.work().begun == ["ann/a"], road.said()


def test_a_run_that_waits_for_one_that_nobody_knows_is_said_and_a_worker_ends(road: QueueRoad) -> None:
    road.submit("next", after=("ann/typo",))
    assert "nobody knows ann/typo" in road.said()

    report = road.work("empty")

    assert not report.begun and report.left == {"ann/next": "blocked"} and road.later == 0.0
    road.submit("typo")
    assert road.work().begun == ["ann/typo"] and road.said().count("nobody knows") == 1


def test_a_run_that_has_not_begun_is_told_from_one_that_nobody_knows(road: QueueRoad) -> None:
    road.submit("a")
    for asked in (road.context.folder, lambda name: history_of(road.context, name, STACK)):
        with pytest.raises(UserError, match="ann/a waits in the queue: it has not begun") as waits:
            asked("a")
        assert waits.value.hint and "invoke cancel ann/a" in waits.value.hint
    changes.reject(road.context, "a")
    with pytest.raises(UserError, match=r"ann/a never began: it was rejected by .*@.* at 20"):
        road.context.folder("ann/a")
    with pytest.raises(UserError, match="there is no run 'other' here"):
        road.context.folder("other")

    elsewhere = road.submit("b")
    assert road.rows().take(elsewhere, "another 2 y", road.clock.now(), lambda _: True) is not None
    with pytest.raises(UserError, match="ann/b was begun by a worker on another, and its record is not here"):
        road.context.folder("b")
    place = road.context.ledger().database.path
    assert place is not None
    place.write_bytes(b"no ledger")
    with pytest.raises(UserError, match="there is no run 'b' here") as unknown:
        road.context.folder("b")
    assert "Whether it waits in the queue cannot be told" in str(unknown.value.hint)


def test_a_worker_that_waits_says_so_once(road: QueueRoad) -> None:
    road.submit("a", "true", not_before=road.clock.now() + 40)

    report = road.work("empty")

    assert [*report.over] == ["ann/a"] and report.left == {}
    assert road.said().count("waiting    1 queued: invoke queue says why") == 1


def test_what_is_held_or_taken_out_does_not_begin(road: QueueRoad) -> None:
    entry = road.submit(hold=True)
    assert entry.held is not None and not road.work("empty").begun
    changes.release(road.context, "a")
    changes.hold(road.context, "a")
    assert changes.prefer(road.context, "a", 3).priority == 3
    taken_out = changes.withdraw(road.context, "a")
    assert taken_out is not None and taken_out.outcome == "withdrawn" and changes.withdraw(road.context, "a") is None
    assert not road.work("empty").begun and road.rows().content(entry.id) is None
    for path in road.context.places.ledger.parent.glob("ledger.db*"):
        path.write_bytes(b"no database" * 100)
    assert changes.withdraw(road.context, "a") is None and "cannot be asked" in road.said(), "who ends a run is not kept from it"


def test_what_is_wrong_is_said_and_nothing_is_submitted(road: QueueRoad) -> None:
    road.submit()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"priority": 11}, "from -10 to 10"), ({"after": ["a/b/c"]}, "named as user/label"), ({"name": "Ann"}, "use a-z"),
        ({"name": "a"}, "in the queue already"),
    ]  # fmt: skip
    for asked, says in wrong:
        with pytest.raises((UserError, RefusedError), match=says):
            road.submit(**{"name": "b", **asked})
    road.settle("limit_day: 2")
    with pytest.raises(LimitReached, match="limit_day"):
        road.submit("b")
    road.settle("approve: [{price: 1}]")
    with pytest.raises(UserError, match="approve rule 1: unknown key 'price'") as place:
        road.submit("c")
    assert place.value.where is not None and len(road.rows().entries(over=True)) == 1


def test_a_limit_that_is_reached_keeps_a_run_in_the_queue_until_there_is_room(road: QueueRoad) -> None:
    road.settle("limit_day: 4")
    first = road.submit("a")
    work_done = road.work()
    second = road.submit("b")  # by now it would pass the limit: it waits all the same
    assert work_done.begun == ["ann/a"] and "limit_day is" in str(second.reason)

    waits = road.work()
    assert "limit_day is" in waits.put_back["ann/b"]
    changes.withdraw(road.context, "b")
    assert road.entry(first).state == "begun"


def test_data_that_are_not_as_they_were_keep_the_run_until_a_person_mends_it(road: QueueRoad) -> None:
    data = road.root / "rows.txt"
    data.write_text("one\n")
    road.script.write_text("#!/bin/sh\ntrue\n")
    request = TrainRequest(stack=STACK, recipe="command", data=str(data), sets=(f"script={road.script}",), name="a")
    entry = submit(road.context, request)
    data.write_text("another\n")

    held = road.work("empty").held

    assert "is another file now, and a submitted run trains on the data as they were" in held["ann/a"]
    assert "by the worker" in str(road.entry(entry).held) and road.cloud.alive() == []
    data.write_text("one\n")
    changes.release(road.context, "a")
    assert road.work().begun == ["ann/a"]


def test_a_cloud_without_an_offer_is_asked_again_later(road: QueueRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as away:
        away.setattr(road.cloud, "offers", lambda _: [])
        entry = road.submit()
        assert entry.estimate is None and "no offer" in str(entry.reason)
        assert "no offer" in road.work().put_back["ann/a"] and not road.work().begun
    road.later += 60
    assert road.work().begun == ["ann/a"] and road.entry(entry).tries == 0


def test_a_worker_that_was_away_too_long_begins_nothing_that_another_one_has(road: QueueRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = road.submit()
    rows, taken, prepare = road.rows(), [], rerun.prepare_from

    def lapsed(*asked: Any) -> Any:
        mine = rows.entry(entry.id)
        assert mine is not None and rows.take(replace(mine, beat=0.0), "too early 1 x", 0.0, lambda _: True) is None
        taken.append(rows.take(mine, "another 2 y", road.clock.now(), lambda _: True))  # its heartbeat was not seen for long
        return prepare(*asked)

    with monkeypatch.context() as once:
        once.setattr(rerun, "prepare_from", lapsed)
        report = road.work()

    assert taken[0] is not None and all_runs(road.context.places.runs) == [] and road.cloud.alive() == [], road.said()
    assert road.entry(entry).worker == "another 2 y" and not report.put_back
    assert not road.work().begun, "the other one lives"
    road.later += 1_000
    road.work()
    assert "no bucket tells" in str(road.entry(entry).reason), "whether a machine that is gone has begun it nobody can ask"


def test_a_worker_that_is_told_to_go_leaves_the_run_to_the_next_one(road: QueueRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = road.submit()
    with monkeypatch.context() as once:
        once.setattr(step, "left_to_its_pod", interrupted)
        with pytest.raises(KeyboardInterrupt):
            road.work()
    assert road.entry(entry).beat is None
    road.later += 60
    road.work()
    road.let_train()
    road.later += 60

    assert road.work().over == {"ann/a": "succeeded"} and len(all_runs(road.context.places.runs)) == 1


def test_a_ledger_that_does_not_answer_once_keeps_no_run_from_its_worker(road: QueueRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = road.submit()
    change = QueueRows.change

    looks: list[float] = []

    def busy(rows: QueueRows, seen: QueueEntry, **values: Any) -> bool:
        if len(looks) == 1 and "beat" in values:
            raise Busy("the ledger is locked")
        return change(rows, seen, **values)

    def pause(seconds: float) -> None:
        looks.append(seconds)
        road.later += 60
        if len(looks) == 2:
            road.let_train()
        if road.entry(entry).state == "over" or len(looks) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(QueueRows, "change", busy)
    with pytest.raises(KeyboardInterrupt):
        work(road.context, until="stopped", clock=Clock(road.clock.now, pause))

    assert road.entry(entry).outcome == "succeeded" and "locked" in road.said()


@pytest.mark.parametrize("moment", ["before its record", "with its record", "as it is left to its pod"])
def test_cancel_ends_a_run_at_whichever_instant_of_its_begin(road: QueueRoad, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    entry = road.submit()
    room, name = (detaching, "leave") if moment == "as it is left to its pod" else (rerun, "prepare_from")
    real, told = getattr(room, name), list[object]()

    def between(*asked: Any) -> Any:
        done = None if moment == "before its record" else real(*asked)
        if moment == "with its record":  # a person who has not seen it took the entry out
            told.append(road.rows().change(road.entry(entry), state="over", outcome="withdrawn"))
        else:
            told.append(changes.end(road.context, "a", now=False))
        return real(*asked) if moment == "before its record" else done

    monkeypatch.setattr(room, name, between)
    road.work()
    road.later += 60
    road.work()

    assert road.cloud.alive() == [] and len(told) == 1, road.said()
    assert road.entry(entry).outcome == ("cancelled" if room is detaching else "withdrawn")
    assert [run for run in all_runs(road.context.places.runs) if not RunFolder(run.folder(road.context.places.runs)).load().cancelled] == []


def test_what_is_decided_meanwhile_is_said_and_cancel_ends_what_has_just_begun(road: QueueRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, first, second = changes._entries, road.submit("a"), road.submit("b", hold=True)

    def stale(*_: object) -> list[QueueEntry]:  # as they were seen a moment before
        monkeypatch.setattr(changes, "_entries", entries)
        return [first]

    changes.reject(road.context, "b")
    monkeypatch.setattr(changes, "_entries", lambda *_: [second])
    with pytest.raises(RefusedError, match="ann/b is rejected by now: nothing was changed"):
        changes.release(road.context, "b")
    road.work()
    monkeypatch.setattr(changes, "_entries", stale)
    changes.end(road.context, "a", now=True)

    assert road.cloud.alive() == [], road.said()


def test_what_another_checkout_of_this_machine_has_begun_is_not_taken_for_ones_own(road: QueueRoad, tmp_path: Path) -> None:
    entry = road.submit()
    elsewhere = worker_name(tmp_path / "another").split(" ")
    elsewhere[1] = "999999999"
    assert road.rows().take(entry, " ".join(elsewhere), road.clock.now() - 60, lambda _: True) is not None
    with pytest.raises(RefusedError, match="whose record is not here"):
        changes.end(road.context, "a", now=False)
    road.later += 1_000
    road.work()

    assert "no bucket tells" in str(road.entry(entry).reason) and all_runs(road.context.places.runs) == []


def test_a_worker_of_one_group_waits_for_no_run_that_nobody_begins(road: QueueRoad) -> None:
    road.settle("queue_per_user: 1")
    first, mine = road.submit("first"), road.submit("mine", group="ann/g")
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        road.later += 25
        if road.entry(mine).state == "begun":
            road.let_train()

    report = work(road.context, until="empty", group="ann/g", clock=Clock(road.clock.now, pause))

    assert report.over == {"ann/mine": "succeeded"} and len(looks) >= 4 and road.entry(first).state == "queued", road.said()
    assert "nobody begins ann/first" in road.said()


def test_runs_that_would_wait_for_one_another_are_refused(road: QueueRoad) -> None:
    road.submit("a", after=["ann/b"])
    with pytest.raises(UserError, match=r"none begins: ann/(a -> ann/b -> ann/a|b -> ann/a -> ann/b)"):
        road.submit("b", after=["ann/a"])
    with pytest.raises(UserError, match="ann/s -> ann/s"):
        road.submit("s", after=["ann/s"])


def test_a_time_that_a_wrong_clock_wrote_keeps_nobody_waiting(road: QueueRoad) -> None:
    entry = road.submit()
    road.work()
    assert road.rows().change(road.entry(entry), due=road.clock.now() + 9e7)
    road.let_train()

    assert road.work().over == {"ann/a": "succeeded"}


def test_a_group_is_told_of_its_live_runs_and_of_those_that_are_over(road: QueueRoad) -> None:
    seen: list[str] = []

    def fails(*_: object) -> None:
        seen.append("ended")
        raise ValueError("of the hook")

    hook = GroupHook(lambda _context, one, folder: seen.append(f"live {one.label} {folder.load().phase}"), fails, lambda *_: None)
    road.submit(group="g")
    road.work(hook=hook)
    road.let_train()
    road.later += 60
    report = road.work(hook=hook)

    assert seen == ["live a started", "ended"] and report.over == {"ann/a": "succeeded"} and "of the hook" in road.said()


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_verbs_say_what_they_did(road: QueueRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    (road.root / "runs").mkdir()
    (road.root / "runs" / "first.yaml").write_text("stack: dev\nrecipe: command\nvalues: {script: job.sh}\n")
    road.script.write_text("#!/bin/sh\ntrue\n")
    for part in (queueverbs, workerverbs):
        monkeypatch.setattr(part, "context", lambda **_: road.context)
    monkeypatch.chdir(road.root)

    assert body(queueverbs.submit)(None, file="runs/first.yaml", dry_run=True) == 0
    assert road.rows().entries() == [] and "1 would begin now, at most $2.62" in road.said()
    assert body(queueverbs.submit)(None, file="runs/first.yaml", name="first", priority=2, not_before="2h") == 0
    assert body(queueverbs.queue)(None) == 0 and "not before" in road.said() and "ann/first" in road.said()
    named = road.root / "runs" / "second.yaml"
    named.write_text("name: after-first\nstack: dev\nrecipe: command\nvalues: {script: job.sh}\n")
    assert body(queueverbs.submit)(None, file="runs/second.yaml", after=["first"]) == 0
    assert [(entry.run, entry.after) for entry in road.rows().entries()][1:] == [("ann/after-first", ("ann/first",))]
    changes.withdraw(road.context, "after-first")
    with pytest.raises(UserError, match="says what is run, and options do, too"):
        body(queueverbs.submit)(None, file="runs/first.yaml", recipe="lora")
    with pytest.raises(UserError, match="there is no run file"):
        body(queueverbs.submit)(None, file="runs/none.yaml")
    with pytest.raises(UserError, match="two ends"):
        body(workerverbs.worker)(None, once=True, until_empty=True)
    assert body(workerverbs.worker)(None, once=True) == 0 and "nothing to do; in the queue: 1 queued (invoke queue)" in road.said()
    assert body(queueverbs.queue_prefer)(None, "first", "-5") == 0 and "ann/first: -5" in road.said()  # a word, as Invoke gives it
    for wrong in ("five", "11", "1.5"):
        with pytest.raises(UserError, match="a whole number from -10 to 10"):
            body(queueverbs.queue_prefer)(None, "first", wrong)
    with pytest.raises(RefusedError, match="is not held; nothing was changed"):
        body(queueverbs.queue_release)(None, "first")


def test_a_key_gives_its_entry_again_as_it_stands_then(road: QueueRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueverbs, "context", lambda **_: road.context)
    road.script.write_text(f"#!/bin/sh\n{WAITS}\n")

    def said(key: str = "k", name: str | None = None, **more: Any) -> Any:
        asked = {"stack": STACK, "recipe": "command", "set": [f"script={road.script}"], "key": key, "name": name, **more}
        return body(queueverbs.submit)(None, **asked)

    assert said(name="a") == 0
    entry = road.rows().entries()[0]
    assert said(name="a", yes=True) == 0 and said(name="a", dry_run=True) == 0 and road.rows().entries() == [entry]
    assert "key k: run ann/a, submitted" in " ".join(road.said().split())
    for other in ({"name": "b"}, {"name": "a", "priority": 1}, {"name": "a", "hold": True}):
        with pytest.raises(RefusedError, match="said for another request"):
            said(**other)
    changes.hold(road.context, "a")
    assert said(name="a") == 0 and "begin invoke queue.release ann/a, invoke worker" in " ".join(road.said().split())
    changes.release(road.context, "a")
    road.work()
    assert said(name="a") == 0 and "invoke attach ann/a" in road.said()
    road.rows().change(road.entry(entry), state="over", ended=time.time(), outcome="failed")
    assert said(name="a") == 1 and "ann/a on dev: failed" in road.said()
    assert said("other", name="b") == 0 and said("third") == 0 and len(road.rows().entries(over=True)) == 3
    changes.withdraw(road.context, "b")
    with pytest.raises(RefusedError, match="was withdrawn by"):
        said("other", name="b")
    assert [row.subject for row in auditlog.rows(road.context.ledger().database, AuditFilter(action="use key"))] == ["ann/a"] * 4


@pytest.mark.parametrize("name", [None, "a"])
def test_of_two_who_submit_with_one_key_one_does_and_both_get_its_entry(road: QueueRoad, name: str | None) -> None:
    road.submit("warm")  # what both need stands by now: they meet at the key
    fork = multiprocessing.get_context("fork")
    gate, results = fork.Barrier(2), fork.Queue()

    def one() -> None:
        request = TrainRequest(stack=STACK, recipe="command", sets=(f"script={road.script}",), name=name)
        gate.wait()
        results.put(submit(road.context, request, key=start_key(road.context, "k", SUBMIT, request)).id)

    children = [fork.Process(target=one) for _ in range(2)]
    for child in children:
        child.start()
    assert len({results.get(timeout=60) for _ in children}) == 1
    for child in children:
        child.join()
    assert len(road.rows().entries()) == 2


def body(task: Any) -> Any:
    """Return what a verb does, without what turns errors into exit codes."""
    return task.body.__wrapped__
