"""A pod of a training that failed is kept for a look where the settings say so, and no longer than they, its lease and its budget allow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.road import Road
from trainyard.clock import Clock
from trainyard.runs.life import looking
from trainyard.runs.life.drive import drive
from trainyard.runs.life.looking import minutes_of

FAILS = "mkdir -p $OUTPUT_DIR/model; echo half >$OUTPUT_DIR/model/m.txt; exit 3"


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    made.settle("keep_on_failure: 30m")
    yield made
    made.lose_pod()


class Waits:
    """A clock whose pauses pass at once; ``act`` is called in the first of them."""

    def __init__(self, act: Any = lambda: None) -> None:
        self.moved, self.act = 0.0, act

    def clock(self) -> Clock:
        return Clock(now=lambda: time.time() + self.moved, pause=self._pause)

    def _pause(self, seconds: float) -> None:
        act, self.act = self.act, lambda: None
        act()
        self.moved += max(1.0, seconds)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    made = Waits()
    own = looking.is_kept
    monkeypatch.setattr(looking, "is_kept", lambda *words, **more: own(*words, **more, clock=made.clock()))
    return made


def orders(road: Road) -> dict[str, float]:
    said: dict[str, float] = json.loads((road.workspace / ".trainyard" / "watchdog" / "keep.json").read_text())
    return said


def test_the_pod_of_a_failed_training_stays_for_its_time_and_all_is_said_and_then_it_is_gone(road: Road, waits: Waits) -> None:
    alive: list[int] = []
    waits.act = lambda: alive.append(len(road.cloud.alive()))
    summary = road.run(FAILS, name="a")
    assert (summary.success, alive, road.cloud.alive()) == (False, [1], [])
    assert waits.moved == pytest.approx(1800, abs=5)
    assert orders(road) == {"seconds": 1800.0}
    for line in ("KEPT for a look: pod ", "$1.00/h, at most $0.50; then it ends by itself", "invoke ssh ann/a", "invoke cancel ann/a"):
        assert line in road.said()


def test_a_pod_that_cannot_end_itself_is_not_said_to_end_itself(road: Road, waits: Waits) -> None:
    folder = road.prepare(FAILS, name="a")
    drive(road.context, folder)
    record = folder.load()
    said = "\n".join(looking.lines_of(replace(record, pod=replace(record.pod, ends_itself=False)), 1800))
    assert "by itself" not in said and "at most" not in said
    assert "only from outside is it ended then: " in said and f"at {record.pod.end} by `invoke reap --stack {record.environment}`" in said


def test_a_success_is_not_kept(road: Road, waits: Waits) -> None:
    assert road.run(name="a").success
    assert (waits.moved, "KEPT" in road.said()) == (0.0, False)


@pytest.mark.parametrize("by", ["cancel", "Ctrl-C"])
def test_whoever_has_seen_enough_ends_it(road: Road, waits: Waits, by: str) -> None:
    folder = road.prepare(FAILS, name="a")

    def leave() -> None:
        raise KeyboardInterrupt

    waits.act = leave if by == "Ctrl-C" else lambda: folder.cancel(now=False)
    assert not drive(road.context, folder).success
    assert (waits.moved < 5, road.cloud.alive()) == (True, [])


def test_a_pod_that_somebody_else_has_ended_is_waited_for_no_longer(road: Road, waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_ELSEWHERE", 0.0)
    waits.act = lambda: road.cloud.terminate(*road.cloud.alive())
    assert not road.run(FAILS, name="a").success
    assert waits.moved < 60 and "is gone: it is kept no longer" in road.said()


def test_whoever_does_not_wait_finds_it_kept_and_whoever_comes_later_ends_it(road: Road, waits: Waits) -> None:
    folder = road.prepare(FAILS, name="a")
    assert drive(road.context, folder, detach=True).ended_at is None
    while folder.load().kept_until is None:  # its training had not ended yet
        assert drive(road.context, folder, detach=True).ended_at is None
    assert len(road.cloud.alive()) == 1
    waits.moved = 1801
    assert drive(road.context, folder, detach=True).ended_at is not None
    assert road.cloud.alive() == []


def test_a_pod_is_kept_no_longer_than_its_budget_lasts(road: Road, waits: Waits) -> None:
    road.settings.write_text(road.settings.read_text().replace("keep_on_failure: 30m", "keep_on_failure: 2h"))
    assert not road.run(FAILS, name="a", budget=0.51).success
    assert 0.4 * 3600 < waits.moved < 0.52 * 3600


@pytest.mark.parametrize(("text", "minutes"), [(None, 0), ("30m", 30), ("2h", 120)])
def test_how_long_is_said_in_minutes_or_hours(text: str | None, minutes: float) -> None:
    assert minutes_of(text) == minutes
