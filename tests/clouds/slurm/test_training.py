"""Recipe lora on two nodes of a real Slurm: every node's processes train one model, die together with their reason, and go on exactly."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.clouds.slurm.conftest import Clustered
from tests.recipes.test_lora_ranks import AT_ONCE, ROWS, pid_of
from tests.recipes.trainings import Training, environment


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_nodes_train_one_model_and_go_on_exactly_when_a_process_of_the_second_is_killed(slurmed: Clustered, tmp_path: Path) -> None:
    envs = environment()
    alone = Training(tmp_path / "alone", envs, ROWS, *AT_ONCE).done()
    info = slurmed.wait(slurmed.create(slurmed.spec(nodes="2")).id, "running")
    assert info is not None
    both = Training(tmp_path / "both", envs, ROWS, *AT_ONCE)
    with slurmed.enter(info) as inside:

        def train_until(words: str, number: int, pid: str) -> None:
            order = f"WORKSPACE={both.folder} TRAINYARD_ENVS={envs} sh {both.folder}/run/run.sh >>{both.folder}/log 2>&1"
            inside.exec(f"({order}; echo over $? >>{both.folder}/log) >/dev/null 2>&1 &")
            done = both.log.count("over ")
            while words not in both.log and both.log.count("over ") == done:
                time.sleep(0.05)
            if number:
                os.kill(int((both.folder / ".trainyard" / "program.pid").read_text()) if pid == "all" else pid_of(both, 1), number)
            while both.log.count("over ") == done:
                time.sleep(0.05)

        both.folder.joinpath("log").touch()
        train_until("train: step 3/", signal.SIGTERM, "all")
        assert both.log.endswith("over 75\n") and both.log.count(", saved") == 1, both.log
        train_until("train: step 5/", signal.SIGKILL, "1")
        assert "rank 1 was killed by signal 9 (SIGKILL)" in both.log and both.log.endswith("over 137\n"), both.log
        assert json.loads((both.folder / "output" / "status.json").read_text())["message"].startswith("rank 1 was killed")
        train_until("never said", 0, "")
    assert both.log.endswith("over 0\n"), both.log
    assert "2 nodes" in both.log and "going on from checkpoint-" in both.log and "16 rows a step" in both.log
    assert both.result["processes"] == 2 and both.result["tokens"] == alone.result["tokens"]
    assert both.result["final_loss"] == pytest.approx(alone.result["final_loss"], rel=1e-4)
