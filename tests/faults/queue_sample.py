"""``invoke faults.queue``: workers that are killed at random instants, in forks of a process without threads; then one is left in peace.

Of each entry one training has begun, and no pod is left: `invoke faults.queue`, of which the suite plays one case.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.runs.test_queue import QueueRoad
from trainyard.runs.queue.worker import work
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder

_KILLS, _PEACE = 2, 20


def killed(road: QueueRoad, dice: random.Random) -> None:
    """Let one worker or two work, each in a process that is killed after a while."""
    ends = []
    for _ in range(dice.randint(1, 2)):
        child = os.fork()
        if not child:
            try:
                road.work()
            finally:
                os._exit(0)
        ends.append((time.monotonic() + dice.uniform(0.02, 1.0), child))
    for at, child in sorted(ends):
        time.sleep(max(0.0, at - time.monotonic()))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def play(road: QueueRoad, dice: random.Random, label: str) -> None:
    """Kill some workers, let the next one finish, and look for exactly one training and no pod."""
    entry = road.submit(label)
    for _ in range(_KILLS):
        killed(road, dice)
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


def main(arguments: Sequence[str]) -> int:
    """Play cases; raises where one of them has left anything."""
    parser = argparse.ArgumentParser(prog="faults.queue")
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args(arguments)
    print(f"seed {asked.seed}: again with --seed {asked.seed}", flush=True)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ty", dir="/tmp") as folder:
        road = QueueRoad(Path(folder), patch)
        try:
            for number in range(asked.cases):
                play(road, random.Random(asked.seed * 100_003 + number), f"case-{number}")
                print(f"{number:4} ok", flush=True)
        finally:
            road.lose_pod()
    print(f"{asked.cases} cases with {_KILLS} rounds of kills each (seed {asked.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
