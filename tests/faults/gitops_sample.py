"""A small sample of faults.gitops in forks of a process without threads: a sync that is killed anywhere is gone on with by the next one.

python -m tests.faults.gitops_sample FOLDER SEED
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.runs.gitops_yard import GitRoad
from trainyard.runs.gitops import sync
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder


def killed(road: GitRoad, seconds: float) -> None:
    """Sync in a process that is killed after a while."""
    child = os.fork()
    if not child:
        try:
            sync.sync(road.context)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def play(road: GitRoad, seed: int) -> None:
    """Kill two syncs, let the third one finish, and look for exactly one training and no pod."""
    dice = random.Random(seed)
    road.write("first.yaml")
    commit = road.commit()

    for _ in range(2):
        killed(road, dice.uniform(0.05, 0.8))
    begun = sync.sync(road.context)
    road.let_train()
    done = sync.sync(road.context)
    assert not begun.failed and done.over and not done.failed, road.said()

    (run,) = all_runs(road.context.places.runs)
    record = RunFolder(run.folder(road.context.places.runs)).load()
    assert (str(run), run.attempt) == (f"gitops/first-{commit}", 1) and record.training_success
    assert road.cloud.alive() == []


def main(folder: Path, seed: int) -> None:
    """Play one sample in a new folder."""
    with pytest.MonkeyPatch.context() as patch:
        road = GitRoad(folder, patch)
        road.begin()
        try:
            play(road, seed)
        finally:
            road.lose_pod()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
