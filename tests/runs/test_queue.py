"""The queue: what is submitted is what runs, once, in its turn, whatever becomes of workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runs.gitops_yard import WAITS, GitRoad
from tests.runs.road import STACK
from trainyard.clock import Clock
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.runs.queue.submit import submit
from trainyard.runs.queue.worker import work
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs.train import TrainRequest


class QueueRoad(GitRoad):
    """A road with a queue, whose time passes only when it is said."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(base, monkeypatch)
        self.later = 0.0
        self.clock = Clock(lambda: time.time() + self.later, self._pause)

    def _pause(self, seconds: float) -> None:
        self.later += seconds

    def rows(self) -> QueueRows:
        return QueueRows(self.context.ledger().database)

    def submit(self, name: str | None = "a", script: str = WAITS, **asked: Any) -> QueueEntry:
        """Submit a run of a script."""
        self.script.write_text(f"#!/bin/sh\n{script}\n")
        return submit(self.context, TrainRequest(stack=STACK, recipe="command", sets=(f"script={self.script}",), name=name), **asked)

    def entry(self, entry: QueueEntry) -> QueueEntry:
        """Return an entry as it stands now."""
        now = self.rows().entry(entry.id)
        assert now is not None
        return now


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueRoad]:
    made = QueueRoad(tmp_path, monkeypatch)
    yield made
    made.lose_pod()


def test_what_is_submitted_is_begun_left_to_its_pod_and_finished(road: QueueRoad) -> None:
    entry = road.submit()
    assert all_runs(road.context.places.runs) == [] and road.engine.asked == []
    road.script.write_text("#!/bin/sh\nexit 3\n")  # what is run is what was submitted

    first = work(road.context, until="pass", clock=road.clock)
    again = work(road.context, until="pass", clock=road.clock)
    assert road.cloud.alive(), road.said()
    road.let_train()
    road.later += 60
    done = work(road.context, until="pass", clock=road.clock)

    assert first.begun == ["ann/a"] and again.begun == [] and done.over == {"ann/a": "succeeded"}, road.said()
    (run,) = all_runs(road.context.places.runs)
    record = RunFolder(run.folder(road.context.places.runs)).load()
    assert record.entry == entry.id and record.training_success and run.attempt == 1
    assert road.entry(entry).state == "over" and road.entry(entry).outcome == "succeeded" and road.rows().content(entry.id) is None
    assert road.cloud.alive() == [] and work(road.context, until="empty", clock=road.clock).begun == []
