"""Each tracker's own library is fed by the real process over two attempts, and what it has kept is read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runs import trackers_read
from trainyard.runs.trackers.tracked import Outcome, TrackedRun, TrackerFolder

CURVE = [[1, 8.5], [2, 7.5], [3, 6.5], [4, 5.5]]


def attempt(base: Path, name: str, number: int, steps: range, outcome: Outcome | None) -> None:
    """Feed a tracker by the real process from one attempt's figures."""
    place = TrackerFolder(base / str(number))
    run = TrackedRun(
        id="a-0123456789ab", name="ann/a", project="trainyard", config={"learning_rate": 0.0001, "packing": True, "seed": None},
        tags=["lora", "local"], folder=str(base / "kept"), after=str(base / str(number - 1)),
    )  # fmt: skip
    place.begin(run, [name])
    lines = [{"step": step, "time": 1796000000 + step, "loss": 9.5 - step} for step in steps]
    place.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if outcome is not None:
        place.end(outcome)
    words = [sys.executable, "-m", "trainyard.runs.trackers", str(base / str(number)), name]
    handed = {"WANDB_MODE": "offline"} if name == "wandb" else {}
    subprocess.run(words, input=json.dumps(handed).encode() + b"\n", check=True, timeout=280, env={**os.environ, "HOME": str(base)})
    feed = place.feed(name)
    assert (feed.problem, feed.done, feed.offset) == ("", outcome is not None, place.metrics.stat().st_size)


def kept(base: Path, name: str) -> dict[str, Any]:
    """Return what the library has kept of both attempts."""
    attempt(base, name, 1, range(1, 4), None)
    attempt(base, name, 2, range(1, 5), Outcome("succeeded", {"cost_dollars": 1.5, "result": None}))
    read = subprocess.run([sys.executable, trackers_read.__file__, name, str(base / "kept")], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(read.stdout.splitlines()[-1])
    return found


@pytest.mark.extras("tensorboard")
def test_tensorboard_shows_both_attempts_of_a_run_as_one_curve(tmp_path: Path) -> None:
    assert kept(tmp_path, "tensorboard") == {"loss": CURVE}


@pytest.mark.extras("mlflow")
def test_mlflow_has_one_run_with_the_curve_of_both_attempts_its_values_and_its_end(tmp_path: Path) -> None:
    assert kept(tmp_path, "mlflow") == {"loss": CURVE, "status": "FINISHED", "name": "ann/a", "lr_value": "0.0001"}


@pytest.mark.extras("trackio")
def test_trackio_has_one_run_with_the_curve_of_both_attempts(tmp_path: Path) -> None:
    assert kept(tmp_path, "trackio") == {"loss": CURVE, "name": "a-0123456789ab"}


@pytest.mark.extras("wandb")
def test_wandb_has_both_attempts_under_one_id_and_nothing_of_this_machine(tmp_path: Path) -> None:
    found = kept(tmp_path, "wandb")
    known = {name: found[name] for name in ("loss", "id", "project", "name", "exit")}
    assert known == {"loss": CURVE, "id": "a-0123456789ab", "project": "trainyard", "name": "ann/a", "exit": 0}
    assert {"learning_rate", "packing"} <= {*found["config"]}
    assert not list(tmp_path.rglob("requirements.txt"))
