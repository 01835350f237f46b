"""A training's verdict as a person reads it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from trainyard.errors import TrainingFailed
from trainyard.recipes.contract import load_recipe
from trainyard.remote.jobs import OUT_OF_MEMORY
from trainyard.runs import finish
from trainyard.runs.record import Record, RunFolder

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (b"step 1\nKilled\n", "the training exited 137"),
        (f"step 1\nKilled\n\n{OUT_OF_MEMORY}: 1 program(s) of this pod were killed\n".encode(), "the training exited 137: out of memory"),
    ],
)
def test_a_killed_training_says_whether_its_memory_was_used_up(tmp_path: Path, log: bytes, told: str) -> None:
    record = Record("u", "a", 1, "local", "command", {}, "", 1.0, time.time(), exit_code=137)
    folder = RunFolder(tmp_path)
    folder.log.write_bytes(log)
    with pytest.raises(TrainingFailed) as failed:
        finish._judge(record, folder, load_recipe(ROOT, "command"), False)

    assert failed.value.message == told
    assert log.decode().splitlines()[-1] in str(failed.value)
