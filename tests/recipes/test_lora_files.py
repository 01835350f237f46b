"""The parts of recipe lora that need no torch: checkpoints that count, telemetry, the wish to stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT

FOLDER = ROOT / "templates" / "lora"


@pytest.fixture
def lora(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the recipe's files; the trainer's base class of callbacks is all they take from transformers."""
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(TrainerCallback=object))
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("checkpoints", "telemetry", "gpus", "callbacks")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = types.SimpleNamespace(**{name: __import__(name) for name in names})
    yield modules
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def checkpoint(tmp_path: Path, lora: Any) -> Callable[..., Any]:
    def make(step: int, marked: bool = True) -> Path:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json"):
            (folder / name).write_text(f"{name} of {step}")
        if marked:
            lora.checkpoints.mark(folder)
        return folder

    return make


def test_the_newest_complete_checkpoint_counts_and_half_ones_are_removed(
    tmp_path: Path, lora: Any, checkpoint: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(5)
    checkpoint(10)
    checkpoint(100, marked=False)
    assert lora.checkpoints.newest_complete(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-10", "checkpoint-5"]
    assert "checkpoint-100 is not complete" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["shorter", "gone", "mark torn", "mark of another kind"])
def test_a_harmed_checkpoint_is_not_complete(lora: Any, checkpoint: Callable[..., Any], harm: str) -> None:
    folder = checkpoint(5)
    assert lora.checkpoints.is_complete(folder)
    if harm == "shorter":
        (folder / "optimizer.pt").write_text("")
    elif harm == "gone":
        (folder / "optimizer.pt").unlink()
    else:
        (folder / "complete.json").write_text("{" if harm == "mark torn" else "[]")
    assert not lora.checkpoints.is_complete(folder)


def test_no_checkpoint_is_no_checkpoint(tmp_path: Path, lora: Any) -> None:
    assert lora.checkpoints.newest_complete(tmp_path) is None


def test_another_setting_than_that_of_the_checkpoints_is_named(tmp_path: Path, lora: Any) -> None:
    assert lora.checkpoints.check_same_run(tmp_path, {"seed": 1, "lr": 0.1, "epochs": 1}, []) is None
    assert lora.checkpoints.check_same_run(tmp_path, {"seed": 1, "lr": 0.1, "epochs": 1}, []) is None
    assert lora.checkpoints.check_same_run(tmp_path, {"seed": 2, "lr": 0.1}, ["epochs"]) == "seed: 1 -> 2"


def test_a_checkpoint_brings_along_what_it_was_made_with_and_the_metrics_so_far_each_step_once(tmp_path: Path, lora: Any) -> None:
    there, here = (tmp_path / name / "checkpoints" for name in ("there", "here"))
    (there / "checkpoint-3").mkdir(parents=True)
    lora.checkpoints.check_same_run(there, {"seed": 1}, [])
    # Steps 2 to 4 were lost in a crash; 2 and 3 were trained anew, and 4 is not trained yet.
    lines = [{"data": {}}, {"step": 1}, {"step": 2, "loss": 9}, {"step": 3}, {"step": 4}, {"data": {}}, {"step": 2, "loss": 8}, {"step": 3}]
    (there.parent / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (there / "checkpoint-3" / "trainer_state.json").write_text("{}")
    lora.checkpoints.mark(there / "checkpoint-3")

    shutil.copytree(there / "checkpoint-3", here / "checkpoint-3")
    lora.checkpoints.unpack(here)

    assert lora.checkpoints.check_same_run(here, {"seed": 2}, []) == "seed: 1 -> 2"
    kept = [json.loads(line) for line in (here.parent / "metrics.jsonl").read_text().splitlines()]
    assert [line for line in kept if "step" in line] == [{"step": 1}, {"step": 2, "loss": 8}, {"step": 3}]
    (here.parent / "metrics.jsonl").write_text("longer by now\n")
    lora.checkpoints.unpack(here)
    assert (here.parent / "metrics.jsonl").read_text() == "longer by now\n"


def test_half_a_line_of_a_crash_is_cut_and_whole_lines_stay(tmp_path: Path, lora: Any) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    lora.telemetry.cut_torn_line(path)
    lora.telemetry.append_line(path, {"step": 2})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    path.write_text("{")
    lora.telemetry.cut_torn_line(path)
    assert path.read_text() == ""


def _state(**known: int) -> Any:
    return types.SimpleNamespace(
        **{"global_step": 3, "max_steps": 10, "num_input_tokens_seen": 300, "epoch": 0.5, "is_world_process_zero": True} | known
    )


@pytest.fixture
def training(tmp_path: Path, lora: Any) -> Any:
    status = lora.telemetry.Status(str(tmp_path))
    stop = types.SimpleNamespace(wanted=False)
    callback = lora.callbacks.Telemetry(str(tmp_path), status, stop)
    callback.on_train_begin(None, _state(global_step=2, num_input_tokens_seen=100), None)
    control = types.SimpleNamespace(should_save=False, should_training_stop=False)
    return types.SimpleNamespace(callback=callback, stop=stop, control=control, folder=tmp_path)


def test_a_step_is_one_line_of_metrics_and_the_new_status(training: Any) -> None:
    training.callback.on_log(None, _state(), training.control, {"loss": 1.5, "learning_rate": 0.1, "epoch": 0.5})
    line = json.loads((training.folder / "metrics.jsonl").read_text())
    assert {key: line[key] for key in ("step", "total_steps", "epoch", "loss", "lr", "tokens")} == {
        "step": 3, "total_steps": 10, "epoch": 0.5, "loss": 1.5, "lr": 0.1, "tokens": 300,
    }  # fmt: skip
    assert line["tokens_per_second"] > 0 and line["time"] > 1e9
    status = json.loads((training.folder / "status.json").read_text())
    assert (status["state"], status["step"], status["total_steps"], status["loss"]) == ("training", 3, 10, 1.5)
    assert [path.name for path in training.folder.glob("*.partial")] == []


def test_a_line_of_metrics_tells_how_busy_and_how_full_the_gpus_were_since_the_one_before(
    training: Any, lora: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    said = ["80, 1024\n40, 2048", "20, 512\n20, 4096", "[N/A], 1"]
    program.write_text(f"#!/bin/sh\ncd {tmp_path}; echo >>asked; sed -n \"$(wc -l <asked)p\" said | tr ';' '\\n'\n")
    program.chmod(0o755)
    (tmp_path / "said").write_text("".join(one.replace("\n", ";") + "\n" for one in said))
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    pauses: list[float] = []
    monkeypatch.setattr(lora.gpus, "time", types.SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(lora.gpus.threading.Thread, "start", lambda thread: thread.run())
    training.callback.on_train_begin(None, _state(), None)
    for _ in range(2):
        training.callback.on_log(None, _state(), training.control, {"loss": 1.5})
    first, second = map(json.loads, (training.folder / "metrics.jsonl").read_text().splitlines())
    assert (first["gpu_percent"], first["gpu_memory_gb"]) == (40.0, 4.0) and "gpu_percent" not in second
    assert pauses == [lora.gpus.EVERY] * 3, "a figure that the driver does not have ends the looking"


def test_a_loss_that_is_no_number_ends_the_training_without_a_checkpoint(training: Any) -> None:
    training.callback.on_log(None, _state(), training.control, {"loss": float("nan"), "learning_rate": 0.1, "grad_norm": float("inf")})
    assert training.control.should_training_stop and not training.control.should_save
    assert "the loss is nan at step 3" in training.callback.broken
    assert json.loads((training.folder / "metrics.jsonl").read_text(), parse_constant=pytest.fail)["loss"] is None
    json.loads((training.folder / "status.json").read_text(), parse_constant=pytest.fail)


def test_a_wish_to_stop_saves_after_the_step_unless_it_was_the_last(training: Any) -> None:
    training.callback.on_step_end(None, _state(), training.control)
    assert not training.control.should_training_stop
    training.stop.wanted = True
    training.callback.on_step_end(None, _state(global_step=10), training.control)
    assert not training.control.should_training_stop
    training.callback.on_step_end(None, _state(), training.control)
    assert training.control.should_training_stop and training.control.should_save


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_step_is_a_stop(tmp_path: Path, number: Any) -> None:
    program = (
        f"import sys, os; sys.path.insert(0, {str(FOLDER)!r}); import telemetry;"
        f"telemetry.Stop(telemetry.Status({str(tmp_path)!r})); os.kill(os.getpid(), {int(number)}); import time; time.sleep(20)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 75, done.stderr
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"


@pytest.mark.parametrize("code", [0, 75])
def test_a_signal_that_comes_while_it_ends_changes_nothing_of_its_exit_code(tmp_path: Path, code: int) -> None:
    program = (
        f"import sys, os, atexit; sys.path.insert(0, {str(FOLDER)!r}); import telemetry;"
        f"telemetry.Stop(telemetry.Status({str(tmp_path)!r})).training = True;"
        f"atexit.register(lambda: os.kill(os.getpid(), 15)); telemetry.leave({code})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code and "stop requested" not in done.stdout, done.stderr
    assert not (tmp_path / "status.json").exists()
