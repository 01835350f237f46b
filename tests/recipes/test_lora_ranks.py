"""Trainings of recipe lora by several processes: as one does it, and gone on exactly after one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recipes.test_lora_training import rows
from tests.recipes.trainings import Training, environment, loaded_environment

ROWS = rows()[:40]
AT_ONCE = ("effective_batch_size=16", "max_steps=6", "save_steps=2")
"""40 rows are two steps and a half: in the last of an epoch the processes have not as many rows."""


@pytest.fixture(scope="module")
def envs() -> Iterator[Path]:
    with loaded_environment(environment()) as folder:
        yield folder


def killed(training: Training, step: int, rank: int = 1) -> Training:
    """Train until a step is told, kill one process, and wait for the end of all."""
    running = training.start()
    while running.poll() is None and f"train: step {step}/" not in training.log:
        time.sleep(0.02)
    os.kill(pid_of(training, rank), signal.SIGKILL)
    assert running.wait(60) == 137, training.log
    return training


def check_losses_and_weights(alone: Training, straight: Training, again: Training, sets: tuple[str, ...]) -> None:
    """Assert that several processes have the losses of one, and that a killed training ends as one that was not."""
    assert again.losses == straight.losses and again.weights == straight.weights
    assert {step: tokens for step, (_, tokens) in straight.losses.items()} == {step: tokens for step, (_, tokens) in alone.losses.items()}
    for step, (loss, _) in alone.losses.items():
        assert straight.losses[step][0] == pytest.approx(loss, rel=1e-4)
    if "keep_best=true" in sets:
        assert straight.result["best_eval_loss"] == pytest.approx(alone.result["best_eval_loss"], rel=1e-4)


def pid_of(training: Training, rank: int) -> int:
    """Return the process that writes the log of a rank."""
    log = str(training.folder / ".trainyard" / "ranks" / f"rank-{rank}.log")
    return next(int(fd.parts[2]) for fd in Path("/proc").glob("[0-9]*/fd/1") if target(fd) == log)


def target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_two_processes_train_as_one_and_go_on_exactly_when_one_of_them_is_killed(tmp_path: Path, envs: Path) -> None:
    alone = Training(tmp_path / "alone", envs, ROWS, *AT_ONCE).start()
    both = killed(Training(tmp_path / "both", envs, ROWS, *AT_ONCE, "gpus=2"), 3)
    assert both.log.splitlines()[-2].endswith("rank 1 was killed by signal 9 (SIGKILL), most often because the machine's memory was full")
    told = json.loads((both.folder / "output" / "status.json").read_text())
    assert (told["state"], told["message"][:17]) == ("failed", "rank 1 was killed")

    both.done()
    assert "going on from checkpoint-2" in both.log and "2 processes by ddp, 8 x 1 x 2 = 16 rows a step" in both.log
    assert alone.wait(100) == 0
    one = json.loads((tmp_path / "alone" / "output" / "result.json").read_text())
    assert (both.result["tokens"], both.result["steps"]) == (one["tokens"], one["steps"])  # no row counts twice
    assert both.result["final_loss"] == pytest.approx(one["final_loss"], rel=1e-5)
    assert (one["processes"], both.result["processes"], both.result["strategy"]) == (1, 2, "ddp")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("strategy=fsdp",),
        ("strategy=fsdp", "method=full", "lr=1e-3"),
        ("strategy=fsdp", "eval_fraction=0.2", "eval_steps=2", "keep_best=true", "gradient_checkpointing=true"),
        ("method=full", "lr=1e-3"),
        ("packing=true", "max_seq_length=128", "per_device_train_batch_size=1", "effective_batch_size=2"),
        ("eval_fraction=0.2", "eval_steps=2", "keep_best=true"),
    ],
    ids=" ".join,
)
def test_by_each_strategy_losses_are_those_of_one_process_and_a_killed_training_ends_with_the_same_weights(
    tmp_path: Path, envs: Path, sets: tuple[str, ...]
) -> None:
    alone = Training(tmp_path / "alone", envs, ROWS, *AT_ONCE, *sets).done()
    straight = Training(tmp_path / "straight", envs, ROWS, *AT_ONCE, *sets, "gpus=2").done()
    again = killed(Training(tmp_path / "again", envs, ROWS, *AT_ONCE, *sets, "gpus=2"), 5).done()
    check_losses_and_weights(alone, straight, again, sets)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_stop_is_saved_once_by_all_processes_and_one_process_can_go_on(tmp_path: Path, envs: Path) -> None:
    alone = Training(tmp_path / "alone", envs, ROWS, *AT_ONCE).done()
    both = Training(tmp_path / "both", envs, ROWS, *AT_ONCE, "gpus=2")
    running = both.start()
    while running.poll() is None and "train: step 3/" not in both.log:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait(60) == 75, both.log
    config = both.folder / "run" / "config.json"
    config.write_text(config.read_text().replace('"gpus": 2', '"gpus": 1'))
    subprocess.run(["sh", "-c", "sha256sum $(cut -c67- bundle.sha256) >new && mv new bundle.sha256"], cwd=config.parent, check=True)
    both.done()
    assert both.steps == list(range(1, 7)) and both.log.count(", saved") == 1
    assert both.result["processes"] == 1 and both.result["final_loss"] == pytest.approx(alone.result["final_loss"], rel=1e-4)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_preferences_are_learnt_by_two_processes_as_by_one(tmp_path: Path, envs: Path) -> None:
    pairs = [{"prompt": f"{number}?", "chosen": f"yes, {number}", "rejected": f"no, {number + 1}"} for number in range(32)]
    sets = ("method=dpo", *AT_ONCE)
    alone = Training(tmp_path / "alone", envs, pairs, *sets).done()
    both = killed(Training(tmp_path / "both", envs, pairs, *sets, "gpus=2"), 3).done()
    for step, (loss, _) in alone.losses.items():
        assert both.losses[step][0] == pytest.approx(loss, rel=1e-4)
    accuracies = [[line["reward_accuracy"] for line in each.metrics if "loss" in line][-1] for each in (alone, both)]
    assert accuracies[0] == accuracies[1]
