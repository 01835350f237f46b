"""A small sample of faults.gitops in forks of this process: a sync that is killed anywhere is gone on with by the next one."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.gitops_yard import GitRoad
from trainyard.runs.gitops import sync
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitRoad]:
    made = GitRoad(tmp_path, monkeypatch)
    made.begin()
    yield made
    made.lose_pod()


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


@pytest.mark.parametrize("seed", [1])
def test_killed_syncs_leave_one_training_of_each_file_and_no_pod(seed: int, road: GitRoad) -> None:
    assert threading.active_count() == 1 or all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
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
