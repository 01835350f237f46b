"""The sample that a recipe brings along is called so: nobody rents GPUs for it without having meant to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainyard.config import places
from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.train import TrainRequest, planned_run

OWN = "the recipe's own sample: --data names yours"


def here(tmp_path: Path) -> CommandContext:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\n")
    (tmp_path / "Pulumi.local.yaml").write_text("config:\n  trainyard:cloud: local\n")
    env = {"HOME": str(tmp_path)}
    return CommandContext(places(tmp_path, env), env, Ui())


def test_a_run_without_data_says_that_it_trains_on_the_recipes_own_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = here(tmp_path)
    planned_run(context, TrainRequest(stack="local"))
    assert f"({OWN})" in capsys.readouterr().out
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a row of mine"}) + "\n")
    planned_run(context, TrainRequest(stack="local", data=str(tmp_path / "rows.jsonl")))
    assert "rows.jsonl: 1 row" in (said := capsys.readouterr().out) and OWN not in said


def test_a_sample_that_does_not_fit_what_was_asked_for_is_not_taken_for_data_of_a_person(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is 128 x 128 pixels") as caught:
        planned_run(here(tmp_path), TrainRequest(stack="local", recipe="simpletuner", sets=["model_family=flux"]))
    assert str(caught.value.hint).endswith(f"This is {OWN}.")
