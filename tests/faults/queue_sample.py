"""Workers of the queue that are killed at random instants, in forks of a process without threads; then one is left in peace.

Of each entry one training has begun, and no pod is left. python -m tests.faults.queue_sample FOLDER SEED CASES
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.runs.test_queue import QueueRoad
from trainyard.runs.queue.worker import work
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder

_KILLS, _PEACE = 2, 20


def killed(road: QueueRoad, seconds: float) -> None:
    """Work in a process that is killed after a while."""
    child = os.fork()
    if not child:
        try:
            road.work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def play(road: QueueRoad, dice: random.Random, label: str) -> None:
    """Kill some workers, let the next one finish, and look for exactly one training and no pod."""
    entry = road.submit(label)
    for _ in range(_KILLS):
        killed(road, dice.uniform(0.02, 1.0))
        road.later += 60
    for _ in range(_PEACE):
        report = work(road.context, until="pass", clock=road.clock)
        if (road.workspace / "job").is_dir():
            road.let_train()
        road.later += 60
        if road.entry(entry).state == "over":
            break
    assert (road.entry(entry).outcome, report.troubled) == ("succeeded", {}), road.said()
    folders = [RunFolder(run.folder(road.context.places.runs)) for run in all_runs(road.context.places.runs) if run.label == label]
    trained = [record.attempt for folder in folders if (record := folder.load()).starting]
    assert len(trained) == 1 and road.cloud.alive() == [], f"{label}: attempts {trained} have trained"


def main(folder: Path, seed: int, cases: int) -> int:
    """Play cases in a new folder; return 1 when one of them has left anything."""
    dice = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        road = QueueRoad(folder, patch)
        try:
            for number in range(cases):
                play(road, dice, f"case-{number}")
                print(f"{number:4} ok", flush=True)
        finally:
            road.lose_pod()
    print(f"{cases} cases, {_KILLS} kills each (seed {seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
