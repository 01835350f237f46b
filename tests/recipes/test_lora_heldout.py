"""Rows held back by recipe lora: which they are, when patience is over, and what a checkpoint keeps of the best weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.recipes.conftest import ROOT

HISTORY = [{"step": step, "loss": 1.0} for step in range(1, 9)]
CONTENTS = [b"row %d" % number for number in range(40)]
ROWS = {f"rows.jsonl:{number}": [number] for number in range(40)}


@pytest.fixture
def lora(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(TrainerCallback=object))
    monkeypatch.syspath_prepend(str(ROOT / "templates" / "lora"))
    names = ("heldout", "checkpoints", "telemetry", "gpus", "callbacks", "patience")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield SimpleNamespace(**{name: __import__(name) for name in names})
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def heldout(lora: Any) -> ModuleType:
    found: ModuleType = lora.heldout
    return found


def history(*losses: float) -> list[dict[str, float]]:
    return [*HISTORY, *({"step": 2 * number, "eval_loss": loss} for number, loss in enumerate(losses, 1))]


def test_the_rows_held_back_depend_on_their_content_and_the_seed_alone(heldout: ModuleType) -> None:
    held = heldout.chosen(ROWS, CONTENTS, 0.2, 7)
    assert len(held) == 8 and held == heldout.chosen(ROWS, CONTENTS, 0.2, 7) != heldout.chosen(ROWS, CONTENTS, 0.2, 8)
    turned = heldout.chosen(ROWS, CONTENTS[::-1], 0.2, 7)
    assert {CONTENTS[number] for number in held} == {CONTENTS[::-1][number] for number in turned}
    assert len(heldout.chosen(ROWS, CONTENTS, 0.001, 7)) == 1


def test_equal_rows_and_the_samples_of_one_row_are_held_back_together(heldout: ModuleType) -> None:
    contents = [b"same"] * 5 + CONTENTS[5:]
    rows = {**{f"a:{number}": [number] for number in range(36)}, "a:36": [36, 37, 38, 39]}
    for seed in range(30):
        held = heldout.chosen(rows, contents, 0.3, seed)
        assert held >= {0, 1, 2, 3, 4} or not held & {0, 1, 2, 3, 4}
        assert held >= {36, 37, 38, 39} or not held & {36, 37, 38, 39}


@pytest.mark.parametrize(
    ("losses", "best", "over"),
    [
        ((), None, False),
        ((3.0, 2.0, 2.5), (4, 2.0), False),
        ((3.0, 2.0, 2.5, 2.0), (4, 2.0), True),
        ((3.0, 2.0, 2.5, 1.0), (8, 1.0), False),
        ((3.0, float("nan"), float("inf")), (2, 3.0), True),
        ((float("nan"), 3.0), (4, 3.0), False),
    ],
)
def test_patience_is_over_when_two_looks_in_a_row_were_no_better(heldout: ModuleType, losses: Any, best: Any, over: bool) -> None:
    assert (heldout.best(history(*losses)), heldout.is_over(history(*losses), 2)) == (best, over)
    assert not heldout.is_over(history(*losses), 0)


def test_the_training_ends_with_a_checkpoint_when_patience_is_over_and_keeps_the_best(lora: Any) -> None:
    kept: list[int] = []
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    for losses in ((3.0,), (3.0, 2.0), (3.0, 2.0, 2.5), (3.0, 2.0, 2.5, 2.6)):
        state = SimpleNamespace(log_history=history(*losses), global_step=2 * len(losses))
        lora.patience.HeldBack(2, lambda state=state: kept.append(state.global_step)).on_evaluate(None, state, control)
    assert (kept, control.should_save, control.should_training_stop) == ([2, 4], True, True)


def test_a_checkpoint_carries_the_best_weights_to_another_pod(tmp_path: Path, lora: Any) -> None:
    best, folder = tmp_path / "checkpoints" / "best", tmp_path / "checkpoints" / "checkpoint-5"
    for path in (best, folder):
        path.mkdir(parents=True)
    (best / "best.safetensors").write_bytes(b"of step 4")
    (folder / "trainer_state.json").write_text("{}")
    lora.checkpoints.mark(str(folder))
    assert "best/best.safetensors" in json.loads((folder / "complete.json").read_text())
    # After the checkpoint better ones were found; what goes on from it does not know them.
    (best / "best.safetensors").unlink()
    (best / "best.safetensors").write_bytes(b"of step 6")
    assert lora.checkpoints.is_complete(str(folder))
    lora.checkpoints.take_best(str(tmp_path / "checkpoints"), str(folder))
    assert (best / "best.safetensors").read_bytes() == b"of step 4"
    lora.checkpoints.take_best(str(tmp_path / "checkpoints"), None)
    assert not best.exists()


def test_what_rows_held_back_came_to_stays_beside_its_step_and_goes_with_one_trained_anew(lora: Any) -> None:
    lines = [b'{"step": 1, "loss": 3}', b'{"step": 1, "eval_loss": 4}', b'{"step": 2, "loss": 2}', b'{"step": 2, "eval_loss": 3}']
    assert lora.checkpoints.each_step_once(lines) == lines
    assert lora.checkpoints.each_step_once([*lines, b'{"step": 2, "loss": 1}']) == [*lines[:2], b'{"step": 2, "loss": 1}']


@pytest.mark.parametrize(("name", "says"), [("loss", "the loss is nan at step 3"), ("grad_norm", "the length of the gradient is nan")])
def test_a_number_that_is_none_ends_the_training_with_its_rows_and_without_a_checkpoint(
    tmp_path: Path, lora: Any, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry = lora.callbacks.Telemetry(str(tmp_path), lora.telemetry.Status(str(tmp_path)), SimpleNamespace(wanted=False))
    telemetry.rows_of_step = lambda: ["rows.jsonl:8", "rows.jsonl:9", "rows.jsonl:8"]
    state = SimpleNamespace(is_world_process_zero=True, num_input_tokens_seen=9, global_step=3, max_steps=5, epoch=1.0)
    control = SimpleNamespace(should_training_stop=False, should_save=True, should_evaluate=True)
    telemetry.on_log(None, state, control, {"loss": 1.0, "grad_norm": 1.0})
    assert telemetry.broken is None and control.should_save
    telemetry.on_log(None, state, control, {"loss": 1.0, "grad_norm": 1.0} | {name: float("nan")})
    told = str(telemetry.broken)
    assert told.startswith(says) and "with rows.jsonl:8, rows.jsonl:9: lower learning_rate" in told
    assert (control.should_training_stop, control.should_save, control.should_evaluate) == (True, False, False)


def test_an_older_checkpoint_goes_on_under_a_recipe_that_knows_more(lora: Any) -> None:
    from trainyard.recipes.contract import load_recipe
    from trainyard.recipes.values import resolve

    values = resolve(load_recipe(ROOT, "lora"))
    assert {name: values[name] for name in lora.checkpoints.LATER} == lora.checkpoints.LATER
