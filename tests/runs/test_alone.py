"""Who sends the plan to commit alone, and when again; what a person is told when the pod takes none."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.test_heartbeat import record as record_of
from trainyard.clock import format_time
from trainyard.errors import PodFailed, Unreachable
from trainyard.remote.protocol import Address
from trainyard.runs.life import alone
from trainyard.runs.life.alone import LonePlan
from trainyard.runs.life.trouble import detached
from trainyard.runs.records.parts import RunBucket, RunPod
from trainyard.runs.records.record import RunFolder
from trainyard.secret import Secret
from trainyard.storage.client import StoreSettings

STORE = StoreSettings("aws", None, "us-east-1", "b", Secret("k"), Secret("s"))
HOUR = 3600.0


LOGIN_NODE = Address("login", 22, "ann", None, None)


class Stage:
    """A controller whose pod takes plans, or does not."""

    def __init__(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        minutes: float = 5.0,
        store: StoreSettings = STORE,
        sender: Address | None = None,
    ) -> None:
        self.sender = sender
        self.now, self.sent, self.warnings, self.trouble = time.time(), list[float](), list[str](), list[Exception]()
        self.life = 100 * HOUR
        pod = RunPod(pod_id="p", end=format_time(self.now + 2 * HOUR), price_per_hour=1.0)
        self.record = record_of(commit_alone_minutes=minutes, bucket=RunBucket("b"), pod=pod)
        monkeypatch.setattr("trainyard.runs.life.alone.time.time", lambda: self.now)
        monkeypatch.setattr(alone, "store_of", lambda *_: store)
        monkeypatch.setattr(alone, "leave_plan", self.leave)
        folder = RunFolder(tmp_path)
        monkeypatch.setattr(RunFolder, "save", lambda *_: None)
        self.plan = LonePlan(self, self.record, folder, self)  # type: ignore[arg-type]
        self.folder = folder

    @property
    def ui(self) -> Any:
        return self

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def connect(self) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def leave(self, *_: Any) -> float:
        if self.trouble:
            raise self.trouble.pop(0)
        self.sent.append(self.now)
        return self.now + self.life

    def tick(self, seconds: float = 0.0) -> int:
        """Let time pass and look; return how often a plan was sent."""
        self.now += seconds
        self.plan.tick()
        if self.plan.thread is not None:
            self.plan.thread.join()
        self.plan.tick()
        return len(self.sent)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_a_plan_is_sent_once_where_it_is_good_to_the_end_of_the_lease(stage: Stage) -> None:
    assert [stage.tick(), stage.tick(HOUR)] == [1, 1] and stage.record.commits_alone


def test_where_urls_die_earlier_it_is_renewed_at_half_of_their_life(stage: Stage) -> None:
    stage.life = HOUR
    assert [stage.tick(), stage.tick(HOUR / 2 - 60), stage.tick(120)] == [1, 1, 2]


def test_a_lease_that_was_moved_gets_another_plan(stage: Stage) -> None:
    assert stage.tick() == 1
    stage.record.pod = replace(stage.record.pod, end=format_time(stage.now + 3 * HOUR))
    assert [stage.tick(1), stage.tick(1)] == [2, 2]


@pytest.mark.parametrize(("moved", "messages"), [(0, 1), (1, 1), (60, 2)])
def test_urls_that_die_a_minute_before_the_lease_are_renewed(
    moved: float, messages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, told = time.time() + 2 * HOUR, list[Any]()

    def tell(_transport: object, _pod: object, message: Any) -> dict[str, Any]:
        told.append(message)
        return {"until": end, "upload": "u", "disk": 0}

    monkeypatch.setattr(alone, "_tell", tell)
    monkeypatch.setattr(alone, "declared_anywhere", lambda *_: None)
    monkeypatch.setattr(alone, "order_for", lambda *_: None)
    monkeypatch.setattr(alone, "open_plan", lambda _settings, _order, last, *_: ({"upload": "u"}, last))
    record = record_of(bucket=RunBucket("b"), pod=RunPod(pod_id="p", end=format_time(end + moved)))
    until = alone.leave_plan(STORE, record, RunFolder(tmp_path), object(), object())  # type: ignore[arg-type]
    assert len(told) == messages and abs(until - end - (moved if messages == 2 else 0)) <= 1


def test_trouble_is_told_once_and_tried_again(stage: Stage) -> None:
    stage.trouble = [Unreachable("no link"), Unreachable("no link")]
    assert [stage.tick(), stage.tick(61), stage.tick(61)] == [0, 0, 1]
    assert len(stage.warnings) == 1 and not stage.trouble


def test_a_watchdog_that_takes_none_is_told_and_not_asked_again(stage: Stage) -> None:
    stage.trouble = [PodFailed("its watchdog takes no plan")]
    assert [stage.tick(), stage.tick(HOUR)] == [0, 0]
    assert stage.warnings == [
        "the pod cannot commit alone: its watchdog takes no plan. What it leaves waits for somebody to come back, no longer than its lease"
    ]


@pytest.mark.parametrize("off", [dict(minutes=0.0), dict(store=replace(STORE, presign=False)), dict(sender=LOGIN_NODE)])
def test_nothing_is_sent_where_it_is_switched_off_or_the_store_signs_no_urls_or_the_pod_does_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: dict[str, Any]
) -> None:
    stage = Stage(tmp_path, monkeypatch, **off)
    assert stage.tick() == 0 and stage.warnings == []


def test_who_leaves_is_told_that_the_pod_commits_by_itself(stage: Stage) -> None:
    assert "waits on the pod for somebody to come back" in detached(stage.record, stage.folder, "Ctrl-C").message
    stage.tick()
    told = detached(stage.record, stage.folder, "Ctrl-C").message
    assert "is committed by the pod itself, which then ends, 5m" in told


def test_who_leaves_a_pod_that_cannot_end_itself_is_not_told_that_it_does(stage: Stage) -> None:
    stage.record.pod = replace(stage.record.pod, ends_itself=False)
    waiting = detached(stage.record, stage.folder, "Ctrl-C").message
    assert "waits on the pod for somebody to come back." in waiting
    stage.tick()
    committing = detached(stage.record, stage.folder, "Ctrl-C").message
    assert "is committed by the pod itself, 5m" in committing
    for told in (waiting, committing):
        assert "then ends" not in told and "no longer than its lease" not in told and "\nOnly from outside is it ended then" in told
