"""What Optuna is asked; skipped where it is not installed, as it is an extra: pip install 'trainyard[sweep]'."""

from __future__ import annotations

import sys

import pytest

from tests.runs.test_sweep_space import read
from trainyard.errors import UserError
from trainyard.runs.records.progress import Curve
from trainyard.runs.sweeps import tuning
from trainyard.runs.sweeps.objective import Objective
from trainyard.runs.sweeps.tuning import PastTrial

LOSS = Objective("loss")


def over(parameters: dict[str, str], value: float) -> PastTrial:
    return PastTrial(parameters, "complete", value, tuple((step, value + 1 / step) for step in (1, 2, 3)))


def test_without_optuna_the_error_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="need the package 'optuna'") as told:
        tuning.require()
    assert told.value.hint and "'trainyard[sweep]'" in told.value.hint and ".venv/bin/pip install optuna" in told.value.hint


@pytest.mark.extras("optuna")
def test_what_is_asked_next_follows_from_what_came_of_the_others_and_is_the_same_again() -> None:
    dimensions = read("lr=1e-5..1e-1:log", "rank=4..64", "lora_dropout=0,0.1")
    past: list[PastTrial] = []
    for _ in range(25):
        parameters = tuning.ask(dimensions, LOSS, 3, past)
        assert parameters == tuning.ask(dimensions, LOSS, 3, past)
        distance = abs(float(parameters["learning_rate"]) - 1e-3) / 1e-3
        past.append(over(parameters, distance))

    late = [float(one.parameters["learning_rate"]) for one in past[-10:]]
    assert sum(1e-4 < rate < 1e-2 for rate in late) >= 6, f"it has learned nothing: {late}"
    assert {one.parameters["lora_dropout"] for one in past} <= {"0", "0.1"}
    assert all(4 <= int(one.parameters["lora_rank"]) <= 64 for one in past)


@pytest.mark.extras("optuna")
def test_trials_that_run_or_failed_are_known_and_not_taken_for_good_ones() -> None:
    dimensions = read("lr=1e-5..1e-1:log")
    past = [over({"learning_rate": f"{rate:g}"}, rate) for rate in (1e-4, 1e-3, 1e-2, 5e-2, 9e-2)]
    past += [PastTrial({"learning_rate": "0.05"}, state, None, ()) for state in ("running", "failed", "complete", "pruned")]

    assert 1e-5 <= float(tuning.ask(dimensions, LOSS, 0, past)["learning_rate"]) <= 1e-1


@pytest.mark.extras("optuna")
def test_a_trial_worse_than_the_median_at_its_step_is_hopeless_and_none_is_before_enough_are_over() -> None:
    dimensions = read("lr=1e-5..1e-1:log")
    past = [over({"learning_rate": "0.001"}, value) for value in (1.0, 2.0, 3.0, 4.0, 5.0)]
    bad, good = ((1, 9.0), (2, 8.0)), ((1, 3.0), (2, 2.0))

    def hopeless(curve: Curve, others: list[PastTrial] = past, objective: Objective = LOSS) -> bool:
        return tuning.is_hopeless(dimensions, objective, 0, others, curve)

    assert hopeless(bad) and not hopeless(good) and not hopeless(()) and not hopeless(bad, past[:4])
    assert hopeless(((40, 9.0),)), "the others were over before"
    assert hopeless(good, objective=Objective("accuracy", maximize=True))
