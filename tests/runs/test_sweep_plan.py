"""A sweep before anything is made, and as the ledger's events tell it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.road import STACK, Road
from trainyard.errors import UserError
from trainyard.ledger.ledger import Ledger
from trainyard.runs.records.identity import all_runs
from trainyard.runs.sweeps import book
from trainyard.runs.sweeps.book import Pruned, Sweep
from trainyard.runs.sweeps.planned import PlannedSweep, SweepRequest, all_parameters, plan_sweep, trial_request
from trainyard.runs.sweeps.report import ReportedTrial, SweepOverview, lines, overview
from trainyard.runs.verbs.train import TrainRequest


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    made.script.write_text("#!/bin/sh\necho $1 $2\n")
    yield made


def asked(road: Road, *sweep: str, budget: float | None = None, **more: object) -> SweepRequest:
    train = TrainRequest(stack=STACK, recipe="command", sets=(f"script={road.script}", "args={lr} {rank}"), budget=budget)
    return replace(SweepRequest(train=train, sweep=sweep or ("lr=1e-4,1e-3", "rank=8,16,32")), **more)  # type: ignore[arg-type]


def plan(road: Road, *sweep: str, **more: object) -> PlannedSweep:
    return plan_sweep(road.context, asked(road, *sweep, **more))  # type: ignore[arg-type]


def test_the_whole_sweep_is_priced_and_its_budget_shared_before_anything_is_made(road: Road) -> None:
    planned = plan(road, budget=3.0)

    assert planned.definition.trials == 6 and planned.train.budget == 0.5 and planned.definition.budget == 3.0
    assert planned.most == pytest.approx(6 * planned.first.estimate.most)
    assert not all_runs(road.context.places.runs) and road.cloud.alive() == []
    parameters = all_parameters(planned.definition)[4]
    assert trial_request(planned.train, planned.definition.dimensions, parameters).sets[1] == "args=1e-3 16"
    assert planned.definition.sets == ("args={lr} {rank}",) and planned.definition.words is None


def test_the_same_command_and_program_are_the_same_sweep_however_many_trials_run_at_once(road: Road) -> None:
    first = plan(road).definition

    assert plan(road, parallel=3, priority=2).definition.digest == first.digest
    assert plan(road, "lr=1e-4,1e-3", "rank=8,16").definition.digest != first.digest
    assert plan(road, objective="loss:best").definition.digest != first.digest
    road.script.write_text("#!/bin/sh\necho another program $1 $2\n")
    assert plan(road).definition.digest != first.digest


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"sampler": "tpe"}, "Samplers: grid, random, optuna"),
        ({"sampler": "grid", "trials": 3}, "a grid has as many trials as there are combinations"),
        ({"sampler": "random"}, "Say how many: --trials 20"),
        ({"trials": 7}, "there are only 6 combinations"),
        ({"parallel": 0}, "--parallel 0: it is 1 or more"),
        ({"max_trials": 5}, "2 x 3: 6 trials, and 5 are the most"),
        ({"objective": "loss:worst"}, "it names no figure"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(more: dict[str, object], says: str, road: Road) -> None:
    with pytest.raises(UserError) as refused:
        plan(road, **more)
    assert says in str(refused.value) and not all_runs(road.context.places.runs)


def test_a_combination_that_the_recipe_refuses_names_its_trial(road: Road) -> None:
    with pytest.raises(UserError, match=r"trial 2 \(lr=1, outputs=!x\): --set outputs=!x: outputs name nothing"):
        plan(road, "lr=1", "outputs=model/*,!x")


def test_trials_are_drawn_when_it_is_said_how_many(road: Road) -> None:
    definition = plan(road, "lr=1e-5..1e-2:log", "rank=8,16", trials=4, seed=5).definition

    assert definition.sampler == "random" and definition.trials == 4 and len(all_parameters(definition)) == 4
    assert all_parameters(definition) == all_parameters(plan(road, "lr=1e-5..1e-2:log", "rank=8,16", trials=4, seed=5).definition)


def begun(road: Road, ledger: Ledger, name: str = "s") -> Sweep:
    definition = plan(road).definition
    sweep = Sweep(user="ann", name=name, definition=definition, begun=0.0, machine="", trials=(), ended=False)
    for number, parameters in enumerate(all_parameters(definition)[:3], 1):
        book.add_trial(ledger, sweep, number, parameters)
    return book.find_sweep(ledger, name)


def test_a_trial_is_begun_once_and_who_comes_second_goes_on_with_the_first_ones_word(road: Road) -> None:
    ledger = road.context.ledger()
    sweep = begun(road, ledger)
    again = book.add_trial(ledger, sweep, 2, {"lr": "9", "rank": "9"})

    assert again.parameters == all_parameters(sweep.definition)[1] and again.label == "s-2"
    assert [trial.number for trial in book.find_sweep(ledger, "ann/s").trials] == [1, 2, 3]
    assert sweep.definition == plan(road).definition and sweep.begun > 0 and not sweep.ended


def test_what_trials_come_to_is_kept_with_the_runs_events(road: Road) -> None:
    ledger = road.context.ledger()
    sweep = begun(road, ledger)
    curve = [(step, 5.0 - step / 1000) for step in range(1, 1001)]
    book.note_figures(ledger, sweep.trials[0], tuple(curve))
    book.note_pruned(ledger, sweep.trials[1], Pruned(step=3, value=9.0))
    book.note_refused(ledger, sweep.trials[2], "its values go together with nothing")
    book.note_ended(ledger, sweep, "cancelled")
    first, second, third = book.find_sweep(ledger, "s").trials

    assert first.curve[0] == (1, 4.999) and first.curve[-1] == (1000, 4.0) and len(first.curve) <= 203
    assert second.pruned == Pruned(step=3, value=9.0) and third.refused == "its values go together with nothing"
    assert book.find_sweep(ledger, "s").ended and book.sweep_of(ledger, "ann/none") is None
    with pytest.raises(UserError, match=r"there is no sweep 'x'") as unknown:
        book.find_sweep(ledger, "x")
    assert "Sweeps: ann/s." in str(unknown.value)


def test_events_that_are_none_of_ours_are_left_out(road: Road) -> None:
    ledger = road.context.ledger()
    sweep = begun(road, ledger)
    run = ledger.events(kind="trial")[0].run
    for data in ({}, {"sweep": 3}, {"sweep": "s", "number": 9, "parameters": {}}, {"sweep": "s", "number": 1, "parameters": []}):
        ledger.add(run, "trial", **data)
    ledger.add(run, "trial figures", curve="x")
    ledger.add(run, "trial pruned", step="x")

    assert book.all_sweeps(ledger) == [sweep]


def reported(number: int, value: float | None, state: str = "succeeded", says: str | None = None) -> ReportedTrial:
    return ReportedTrial(
        number=number, run=f"ann/s-{number}", parameters={"lora_rank": "16", "lr": "0.001"}, state=state, over=state != "waiting",
        value=value, steps_done=76, steps_planned=76, seconds=242.0, cost=0.21, says=says, curve=((1, 3.0), (2, value)) if value else (),
    )  # fmt: skip


def shown(*trials: ReportedTrial, best: str | None = "ann/s-3", ended: bool = True) -> SweepOverview:
    return SweepOverview(
        sweep="ann/s", stack="runpod", recipe="lora", sampler="grid", figure="loss", objective="last loss",
        planned=len(trials), ended=ended, best=best, cost=0.63, trials=trials,
    )  # fmt: skip


def test_a_report_names_the_best_trial_and_the_command_that_fetches_it_at_80_columns() -> None:
    report = shown(reported(3, 1.2034), reported(1, 1.5), reported(2, None, "failed", "the training ended with code 1"))
    text = lines(report, 80)

    assert text[1].split() == ["trial", "lora_rank", "lr", "loss", "state", "steps", "time", "$"]
    assert text[2].split() == ["1", "3", "16", "0.001", "1.2034", "succeeded", "76/76", "4m02s", "0.21"]
    assert text[5] == "       the training ended with code 1" and max(map(len, text)) <= 80
    assert "3 of 3 trials over, 1 failed; $0.63 in all" in text
    assert "best       ann/s-3: last loss 1.2034, lora_rank=16, lr=0.001" in text
    assert "fetch it   invoke download ann/s-3 out/downloads/s-3 --stack runpod" in text
    assert report.exit_status == 0 and overview([report])[1].split() == ["ann/s", "3/3", "2", "1.2034", "(3)", "0.63", "over"]


def test_values_that_have_no_room_beside_the_figures_stand_below_them() -> None:
    wide = replace(reported(1, 1.5), parameters={"target_modules": "[" + "q_proj," * 9 + "v_proj]"})
    text = lines(shown(wide, best="ann/s-1"), 80)

    assert text[1].split() == ["trial", "loss", "state", "steps", "time", "$"] and text[3].startswith("       target_modules=[q_proj,")


def test_a_report_of_a_sweep_that_goes_on_or_came_to_nothing_says_so() -> None:
    waits = shown(reported(1, None, "waiting"), best=None, ended=False)
    lost = shown(reported(1, None, "failed"), best=None)

    assert waits.exit_status == 3 and any(line.startswith("end it     invoke cancel ann/s") for line in lines(waits, 80))
    assert lost.exit_status == 1 and "best       none: no trial has succeeded" in lines(lost, 80)
    unjudged = shown(reported(1, None, "succeeded"), best=None)
    assert unjudged.exit_status == 0 and any(
        line.startswith("best       not known: no trial that has succeeded") for line in lines(unjudged, 80)
    )
    assert overview([]) == ["no sweep yet: invoke train --sweep NAME=VALUES begins one"]


def test_what_steers_a_terminal_is_shown_in_letters_and_a_picture_is_offered_only_of_curves() -> None:
    odd = replace(reported(1, 1.5), parameters={"words": "a\x1b[31mred\nb"})
    text = "\n".join(lines(shown(odd, best="ann/s-1"), 80))
    assert "\x1b" not in text and r"words=a\x1b[31mred\nb" in text and "picture    invoke sweep ann/s --png" in text
    assert "--png" not in "\n".join(lines(shown(replace(odd, curve=()), best="ann/s-1"), 80))
