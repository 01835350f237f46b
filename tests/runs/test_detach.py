"""A run that is left to its pod: how far the command goes, what it says, and who finishes the story."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.road import Road
from trainyard.errors import Detached, PodFailed, RefusedError
from trainyard.runs.life import alone, detaching
from trainyard.runs.life.drive import drive
from trainyard.runs.verbs import prepare
from trainyard.runs.verbs.through import through

WAITS = "while [ ! -e $HOME/go ]; do sleep 0.02; done; mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt"


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    yield made
    made.lose_pod()


def test_it_is_left_when_the_training_runs_and_the_next_command_finishes_the_story(road: Road) -> None:
    folder = road.prepare(WAITS, name="a", detach=True)

    left = through(road.context, folder, detach=True)
    again = through(road.context, folder, detach=True)  # who comes while it trains leaves it, too
    (road.workspace / "go").touch()
    done = drive(road.context, folder)

    assert left.exit_status == again.exit_status == 0 and left.ended_at is None and again.ended_at is None
    assert done.success and road.cloud.alive() == []
    assert any("cannot commit alone" in line for line in detaching.lines_of(replace(folder.load(), commits_alone=False)))


@pytest.mark.parametrize("alone", [True, False])
def test_a_pod_that_cannot_end_itself_is_left_with_the_word_who_ends_it(road: Road, alone: bool) -> None:
    record = road.prepare(WAITS, name="a", detach=True).load()
    record = replace(record, commits_alone=alone, pod=replace(record.pod, ends_itself=False, end="2026-12-01T10:00:00Z"))
    said = "\n".join(detaching.lines_of(record))
    assert f"at 2026-12-01T10:00:00Z by `invoke reap --stack {record.environment}`" in said
    assert not any(untrue in said for untrue in ("nothing here need go on", "no longer than its lease", "ends itself"))


def test_a_training_that_is_over_before_it_is_left_is_brought_to_its_end(road: Road) -> None:
    folder = road.prepare("mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt", name="a", detach=True)
    summary = drive(road.context, folder, detach=True)
    while not summary.ended_at:
        summary = drive(road.context, folder, detach=True)

    assert summary.success and road.cloud.alive() == []


def test_a_pod_that_takes_no_plan_is_said_with_the_code_of_who_has_left(road: Road) -> None:
    folder = road.prepare(WAITS, name="a", detach=True)

    def refuses(*_: object) -> bool:
        raise PodFailed("its watchdog takes no plan")

    road.patch(alone, "hand_over", refuses)
    with pytest.raises(Detached, match=r"(?s)the pod cannot commit alone: its watchdog takes no plan.*the training goes on"):
        drive(road.context, folder, detach=True)


def test_a_rented_pod_that_could_not_commit_alone_is_never_left_to_itself(road: Road) -> None:
    folder = road.prepare(WAITS, name="a", detach=True)
    plan = prepare.RunPlan(
        stack="dev", user="ann", recipe=None, values={}, data=None, code=None, hours=1.0, budget=None,  # type: ignore[arg-type]
        settings=road.context.settings("dev"), asked_data=None, detach=True,
    )  # fmt: skip
    with pytest.raises(RefusedError, match="could not commit alone \\(no bucket is set\\); nothing was rented"):
        prepare._tell_of_lone_pods(road.context, folder.load().bucket, plan, here=False)
    never = replace(plan, settings=replace(plan.settings, commit_alone_minutes=0.0))
    with pytest.raises(RefusedError, match="`commit_alone_minutes` is 0"):
        prepare._tell_of_lone_pods(road.context, folder.load().bucket, never, here=False)
