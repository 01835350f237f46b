"""Sweeps from the command to the best trial: real jobs behind a played cloud, the queue, a worker; whatever is killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.road import STACK
from tests.runs.test_queue import QueueRoad
from trainyard.cli.sweepoptions import sweep_submitted
from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.queue import submit as queue
from trainyard.runs.queue.worker import work
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder
from trainyard.runs.sweeps import book, tuning
from trainyard.runs.sweeps import work as sweeping
from trainyard.runs.sweeps.begin import begin
from trainyard.runs.sweeps.book import Sweep
from trainyard.runs.sweeps.cancel import cancel_rest
from trainyard.runs.sweeps.planned import SweepRequest
from trainyard.runs.sweeps.report import SweepOverview
from trainyard.runs.sweeps.standing import report
from trainyard.runs.verbs.train import TrainRequest

LOSSES = """
mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt
echo '{"step": 1, "loss": '$1'9}' >>$OUTPUT_DIR/metrics.jsonl
echo '{"step": 2, "loss": '$1'}' >>$OUTPUT_DIR/metrics.jsonl
[ $1 != 3 ] || exit 1
"""
WAITS = LOSSES + "while [ ! -e $HOME/go ]; do sleep 0.02; done\n"


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueRoad]:
    made = QueueRoad(tmp_path, monkeypatch)
    made.settle("queue_per_user: 1")  # the played pod is one
    yield made
    made.lose_pod()


def asked(road: QueueRoad, script: str = LOSSES, values: str = "2,1,3", **more: object) -> SweepRequest:
    road.script.write_text(f"#!/bin/sh\n{script}\n")
    train = TrainRequest(stack=STACK, recipe="command", sets=(f"script={road.script}", "args={x}"))
    return replace(SweepRequest(train=train, sweep=(f"x={values}",)), **more)  # type: ignore[arg-type]


def once(road: QueueRoad) -> None:
    """Let a worker look at each entry once, and the time to the next look pass."""
    work(road.context, until="pass", clock=road.clock, hook=sweeping.hook())
    road.later += 60


def until_over(road: QueueRoad, sweep: Sweep) -> SweepOverview:
    for _ in range(40):
        once(road)
        if book.find_sweep(road.context.ledger(), str(sweep)).ended:
            return report(road.context, book.find_sweep(road.context.ledger(), str(sweep)))
    raise AssertionError(road.said())


def labels(road: QueueRoad, *, over: bool = True) -> list[str]:
    return sorted(entry.label for entry in road.rows().entries(over=over))


def test_a_sweep_that_is_killed_as_it_begins_goes_on_by_the_same_command_and_nothing_is_there_twice(road: QueueRoad) -> None:
    real, calls = queue.submit, []

    def killed(context: CommandContext, request: TrainRequest, **more: object) -> object:
        calls.append(request.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(context, request, **more)  # type: ignore[arg-type]

    road.patch(sweeping, "submit", killed)
    with pytest.raises(KeyboardInterrupt):
        begin(road.context, asked(road))
    (left,) = book.all_sweeps(road.context.ledger())
    sweep = begin(road.context, asked(road))
    again = begin(road.context, asked(road))

    assert left.name == sweep.name and len(left.trials) == 2 and len(sweep.trials) == 3 and again == sweep
    assert labels(road) == [f"{sweep.name}-{number}" for number in (1, 2, 3)] and len(calls) == 4
    assert "goes on: 2 of its trials were submitted before" in road.said()


def test_each_value_is_one_run_of_what_the_first_one_was_made_of_and_a_failed_one_fails_no_other(road: QueueRoad) -> None:
    sweep = begin(road.context, asked(road, parallel=1))
    assert labels(road) == [f"{sweep.name}-1"]
    road.script.unlink()  # those that follow are made of what the first one was, whatever has become of the checkout
    seen = until_over(road, sweep)

    assert [(one.number, one.state, one.value) for one in seen.trials] == [(2, "succeeded", 1.0), (1, "succeeded", 2.0), (3, "failed", 3.0)]
    assert seen.best == f"{sweep}-2" and seen.over and seen.exit_status == 0 and seen.cost > 0 and road.cloud.alive() == []
    records = [RunFolder(run.folder(road.context.places.runs)).load() for run in all_runs(road.context.places.runs)]
    assert len(records) == 3 and all(record.rerun_of is None and record.user == "ann" for record in records)

    shown = begin(road.context, asked(road))  # the same command, program and data
    assert shown.ended and len(labels(road)) == 3 and "is over: this command" in road.said()
    assert sweep_submitted(road.context, asked(road), hold=False, dry_run=False, as_json=False) == 0
    assert "trials of ann/" not in road.said() and road.said().endswith(f"look       invoke sweep {sweep}\n")  # nothing was queued


def test_a_trial_whose_figure_became_nan_or_that_has_none_is_not_the_best_one(road: QueueRoad) -> None:
    script = LOSSES + """[ $1 != 1 ] || echo '{"step": 3, "loss": NaN}' >>$OUTPUT_DIR/metrics.jsonl\n"""
    seen = until_over(road, begin(road.context, asked(road, script, values="1,2")))
    none = until_over(road, begin(road.context, asked(road, script, values="1,2", objective="accuracy")))

    assert [(one.number, one.state, one.value) for one in seen.trials] == [(2, "succeeded", 2.0), (1, "succeeded", None)]
    assert seen.best == f"{seen.sweep}-2" and none.best is None and none.exit_status == 0


def test_a_hopeless_trial_is_pruned_its_pod_ends_and_it_is_told_as_that(road: QueueRoad) -> None:
    def hopeless(_dimensions: object, _objective: object, _seed: int, _past: object, curve: object) -> bool:
        return curve == ((1, 59.0), (2, 5.0))

    road.patch(tuning, "require", lambda: None)
    road.patch(tuning, "is_hopeless", hopeless)
    sweep = begin(road.context, asked(road, script=WAITS, values="5", prune=True))
    once(road)
    assert road.cloud.alive(), road.said()
    seen = until_over(road, sweep)

    (trial,) = seen.trials
    assert trial.state == "pruned" and trial.value == 5.0 and trial.cost > 0 and seen.best is None and seen.exit_status == 1
    assert trial.says == "pruned at step 2, where it had 5.0000: worse than the median of the others"
    assert road.cloud.alive() == []


def test_optuna_is_asked_for_one_trial_after_the_other_and_told_what_came_of_them(road: QueueRoad) -> None:
    asked_with: list[list[tuple[str, float | None]]] = []

    def ask(_dimensions: object, _objective: object, _seed: int, past: list[tuning.PastTrial]) -> dict[str, str]:
        asked_with.append([(one.state, one.value) for one in past])
        return {"x": str(3 - len(past))}

    road.patch(tuning, "require", lambda: None)
    road.patch(tuning, "ask", ask)
    sweep = begin(road.context, asked(road, values="1..9", sampler="optuna", trials=2))
    assert sweeping.work_until_over(road.context, sweep, road.clock) == 0
    seen = report(road.context, book.find_sweep(road.context.ledger(), str(sweep)))

    assert [one.parameters["x"] for one in seen.trials] == ["2", "3"] and len(road.rows().entries(over=True)) == 2
    assert asked_with[-1] == [("failed", 3.0)], "the script fails for 3"


def test_the_rest_of_a_sweep_is_cancelled_what_waits_is_taken_out_and_what_trains_is_ended(road: QueueRoad) -> None:
    sweep = begin(road.context, asked(road, script=WAITS))
    once(road)
    done = cancel_rest(road.context, sweep, now=False)
    again = cancel_rest(road.context, book.find_sweep(road.context.ledger(), sweep.name), now=False)
    seen = report(road.context, book.find_sweep(road.context.ledger(), sweep.name))

    assert len(done.withdrawn) == 2 and len(done.cancelled) == 1 and done.exit_status == 0 and not again.withdrawn + again.cancelled
    assert road.cloud.alive() == [] and {one.state for one in seen.trials} == {"withdrawn", "cancelled"}


def test_a_trial_that_cannot_be_submitted_is_left_out_and_a_name_that_is_taken_is_refused(road: QueueRoad) -> None:
    real = queue.submit

    def refuses(context: CommandContext, request: TrainRequest, **more: object) -> object:
        if str(request.name).endswith("-2"):
            raise UserError("its values go together with nothing")
        return real(context, request, **more)  # type: ignore[arg-type]

    road.patch(sweeping, "submit", refuses)
    request = asked(road)
    sweep = begin(road.context, replace(request, train=replace(request.train, name="mine")))
    states = {one.number: one.state for one in report(road.context, sweep).trials}

    assert states == {1: "waiting", 2: "refused", 3: "waiting"} and sweep.name == "mine"
    with pytest.raises(UserError, match="there is a sweep ann/mine, and it is another one"):
        begin(road.context, replace(asked(road, values="7,8"), train=replace(request.train, name="mine")))
    with pytest.raises(UserError, match="there is a run ann/other-1 already"):
        book_run(road, "other-1")
        begin(road.context, replace(request, train=replace(request.train, name="other")))


def book_run(road: QueueRoad, label: str) -> None:
    folder = road.prepare(name=label)
    assert folder.load().label == label
