"""Files of runs/ that wait for one another: a link begins when all before it have succeeded, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.gitops_yard import WAITS, GitRoad
from tests.runs.test_gitops import actions
from tests.runs.test_identity_and_record import make_record
from trainyard.errors import NotInResult, UserError
from trainyard.runs.gitops import plan, sync
from trainyard.runs.gitops.links import LinkedRuns, WantedRun
from trainyard.runs.gitops.runfile import read_run_file
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.parts import RunResult
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs.known import KnownRun
from trainyard.storage.manifest import ResultKey


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitRoad]:
    made = GitRoad(tmp_path, monkeypatch)
    made.begin()
    yield made
    made.lose_pod()


def test_a_chain_takes_one_link_after_the_other_and_each_once(road: GitRoad) -> None:
    road.write("a-second.yaml", "after: first")
    road.write("first.yaml")
    commit = road.commit()
    first, second = f"gitops/first-{commit}", f"gitops/a-second-{commit}"

    planned = plan.rows(road.context, plan.look(road.context))
    begun = sync.sync(road.context)
    waits = sync.sync(road.context)
    road.let_train()
    linked = sync.sync(road.context)
    road.let_train()
    done = sync.sync(road.context)

    assert [(row.action, row.run, round(row.most or 0.0, 2)) for row in planned] == [("start", first, 2.62), ("waits", second, 2.62)]
    assert "waits for first (not begun)" in planned[1].says and "what waits at most $2.62" in plan.summary(planned)
    assert (begun.started, begun.waiting) == ([first], [second]) and (waits.at_work, waits.waiting) == ([first], [second])
    assert (linked.over, linked.started) == ([first], [second]), "the sync that finishes a link begins the next one"
    assert sorted(done.over) == sorted([first, second]) and len(all_runs(road.context.places.runs)) == 2
    assert road.cloud.alive() == []


def test_what_waits_for_a_failed_run_does_not_begin_and_says_why_until_it_succeeds(road: GitRoad) -> None:
    (road.root / "bad.sh").write_text(f"#!/bin/sh\n{WAITS}\nexit 3\n")
    road.write("first.yaml").write_text("stack: dev\nrecipe: command\nvalues: {script: bad.sh}\n")
    road.write("second.yaml", "after: [first]")
    commit = road.commit()
    sync.sync(road.context)
    road.let_train()

    report = sync.sync(road.context)
    row = plan.rows(road.context, plan.look(road.context))[1]

    assert report.broken == {f"gitops/second-{commit}": "will not begin: first (failed)"} and not report.started
    assert report.exit_status == 0 and "1 will not begin" in sync.lines(report)[-1]
    assert row.action == "broken" and f"invoke resume gitops/first-{commit}" in row.says
    assert f"invoke resume gitops/first-{commit}" in road.said()
    path = road.write("first.yaml")  # mended: its new commit is another run, and lets the second one go on
    road.commit("mend")
    again = sync.sync(road.context)
    assert path.is_file() and len(again.started) == 1 and again.waiting == [f"gitops/second-{commit}"]


def test_names_of_no_file_and_cycles_and_itself_are_refused_with_their_places(road: GitRoad) -> None:
    road.write("first.yaml", "after: [seccond, third]")
    road.write("second.yaml", "after:", "  - second", "init_from: ghost")
    road.write("third.yaml", "data: run:ghost/model")
    road.commit()
    with pytest.raises(UserError) as told:
        plan.look(road.context)
    text = str(told.value)
    assert "runs/first.yaml:4:9: there is no runs/seccond.yaml to wait for (did you mean 'second'?)" in text
    assert "runs/second.yaml:5:5: 'second' waits for itself" in text and "4 things in the run files" in text
    assert "runs/second.yaml:6:12: there is no runs/ghost.yaml" in text and "runs/third.yaml:4:7: there is no runs/ghost.yaml" in text

    road.write("first.yaml", "after: second")
    road.write("second.yaml", "after: third")
    road.write("third.yaml", "init_from: first")
    road.commit()
    with pytest.raises(UserError, match=r"wait for one another, so none of them would ever begin: .* -> .* -> ") as cycle:
        plan.look(road.context)
    assert cycle.value.where is not None and cycle.value.where.line == 4


def test_a_run_of_others_that_nobody_knows_is_told_with_its_place_and_keeps_no_other_from_starting(road: GitRoad) -> None:
    road.write("first.yaml", "after: ann/nowhere")
    road.write("second.yaml")
    road.commit()

    report = sync.sync(road.context)
    rows = plan.rows(road.context, plan.look(road.context))

    assert len(report.started) == 1 and report.exit_status == UserError.exit_code
    assert "nobody knows a run ann/nowhere" in rows[0].problem and "runs/first.yaml:4:8" in rows[0].problem and rows[0].wrong


def test_results_of_other_files_go_in_by_their_exact_attempts(road: GitRoad) -> None:
    one = read_run_file("stack: dev\ndata: run:rows/model/rows.jsonl\ninit_from: first\nafter: third\n", "runs/second.yaml")
    assert list(one.predecessors()) == ["third", "first", "rows"]
    own = read_run_file("stack: dev\ndata: run:ann/rows/2/model\ninit_from: ann/first/1\n", "runs/second.yaml")
    assert not own.predecessors() and own.data == "run:ann/rows/2/model"

    files = [read_run_file("stack: dev\n", f"runs/{stem}.yaml") for stem in ("third", "first", "rows")]
    desired = [WantedRun(file, "gitops", f"{file.name}-0123456789ab", False) for file in (*files, one)]
    known = {
        (each.user, each.label): KnownRun(ResultKey(each.user, each.label, 2), "over", "succeeded", outcome="succeeded")
        for each in desired[:3]
    }
    links = LinkedRuns(road.context, tuple(desired), known)
    request = links.with_inputs(desired[3]).request(road.root, user="gitops", label="x", attempt=1, yes=True)

    assert links.readiness(desired[3]).state == "ready"
    assert request.init_from == "gitops/first-0123456789ab/2" and request.data == "run:gitops/rows-0123456789ab/2/model/rows.jsonl"
    late = LinkedRuns(
        road.context,
        tuple(desired),
        {**known, ("gitops", "rows-0123456789ab"): replace(known["gitops", "rows-0123456789ab"], outcome="open")},
    )
    assert str(late.readiness(desired[3])) == "waits for rows (succeeded)" and one.without_inputs() is None
    assert actions(road) == []


def test_data_that_another_files_result_does_not_have_break_that_file_alone(road: GitRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road.write("first.yaml", "hours: 1")
    road.commit()
    missing = NotInResult("the result of gitops/x/1 has no 'no.jsonl'", hint="It has: model.")

    def prepare(*_: object) -> RunFolder:
        raise missing

    monkeypatch.setattr(sync, "prepare", prepare)
    monkeypatch.setattr(plan, "foresee", prepare)
    (row,) = plan.rows(road.context, plan.look(road.context))
    report = sync.sync(road.context)

    assert (row.action, row.problem) == ("broken", "") and "has no 'no.jsonl'" in row.says
    assert list(report.broken) == [row.run] and not report.failed and report.exit_status == 0
    assert "will not begin: the result of gitops/x/1 has no" in road.said() and sync.lines(report)[-1].endswith("1 will not begin")


def test_since_last_takes_what_the_files_last_success_has_not_had_and_nothing_new_begins_no_run(road: GitRoad) -> None:
    rows = road.root / "rows"
    rows.mkdir()
    (rows / "a.txt").write_text("a")
    lines = ["data: rows", "since: last"]
    road.write("first.yaml", *lines)
    road.commit()
    begun = sync.sync(road.context)
    road.let_train()
    sync.sync(road.context)

    road.write("first.yaml", *lines, "hours: 1")
    road.commit()
    idle = sync.sync(road.context)
    rows_of_plan = plan.rows(road.context, plan.look(road.context))
    (rows / "b.txt").write_text("b")
    again = sync.sync(road.context)

    assert len(begun.started) == 1 and "no run of runs/first.yaml has succeeded yet" in road.said()
    assert len(idle.nothing_new) == 1 and not idle.started and idle.exit_status == 0 and "1 without new data" in sync.lines(idle)[-1]
    assert [row.action for row in rows_of_plan] == ["nothing new"] and f"nothing is new since {begun.started[0]}/1" in rows_of_plan[0].says
    assert again.started == idle.nothing_new
    record = road.context.folder(again.started[0]).load()
    assert [file.dest for file in record.data.files] == ["b.txt"] and record.data.since == f"{begun.started[0]}/1"
    assert [file.dest for file in record.data.there] == ["a.txt", "b.txt"]


def test_last_is_the_newest_success_of_the_same_file_whatever_its_commit_and_of_no_other(road: GitRoad) -> None:
    for label, ended in (("first-0123456789ab", 10.0), ("first-ba9876543210-20300101t0300z", 20.0), ("first-two-0123456789ab", 30.0)):
        record = make_record(
            user="gitops", label=label, phase="ended", ended=ended, training_success=True, result=RunResult(manifest_sha256="0" * 64)
        )
        folder = RunFolder(record.id.folder(road.context.places.runs))
        folder.path.mkdir(parents=True)
        folder.save(record)
    file = read_run_file("stack: dev\ninit_from: last\n", "runs/first.yaml")
    links = LinkedRuns(road.context, (), {})

    assert links.with_inputs(WantedRun(file, "gitops", "first-new", False)).init_from == "gitops/first-ba9876543210-20300101t0300z/1"
    assert links.with_inputs(WantedRun(replace(file, name="second"), "gitops", "second-new", False)).init_from is None
    with pytest.raises(UserError, match="'since' says nothing without 'data'"):
        read_run_file("stack: dev\nsince: last\n", "runs/a.yaml")


def test_one_file_alone_waits_for_runs_by_their_full_names_and_for_nothing_that_only_a_sync_knows() -> None:
    def alone(*lines: str) -> tuple[str, ...]:
        return read_run_file("\n".join(["stack: dev", *lines]), "runs/a.yaml").runs_before()

    assert alone("after: [ann/first, bob/second]", "init_from: last") == ("ann/first", "bob/second")
    with pytest.raises(UserError, match="'first' is another file") as told:
        alone("after: first")
    assert str(told.value.where) == "runs/a.yaml:2:8" and told.value.hint and "gitops.sync" in told.value.hint
    with pytest.raises(UserError, match="a schedule does not go with one run"):
        alone('schedule: "0 3 * * *"')
