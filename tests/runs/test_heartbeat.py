"""What a controller tells the watchdog on a run's pod, and what it hears from it: through the files of a real watchdog."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pod.clock import TurnedClock
from tests.pod.lease import HOUR, Ended, make
from trainyard.remote.local import LocalTransport
from trainyard.runs.life import heartbeat
from trainyard.runs.life.heartbeat import beat, beating, tell_budget
from trainyard.runs.records.parts import PaidPod, RunPod
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunRecord


@pytest.fixture
def pod(tmp_path: Path) -> ReachablePod:
    found = ReachablePod("p", "0123456789", str(tmp_path), None, None)  # type: ignore[arg-type]
    return found


def record(**changes: Any) -> RunRecord:
    values: dict[str, Any] = dict(
        user="ann", label="a", attempt=1, environment="local", recipe="lora", values={}, bundle_sha256="0", hours=1.0, created=100.0
    )
    return RunRecord(**{**values, **changes})


def test_the_watchdog_stops_by_the_price_that_the_pod_has_and_counts_pods_that_came_before(tmp_path: Path, pod: ReachablePod) -> None:
    clock = TurnedClock(wall=time.time())
    w = make(tmp_path, clock, Ended(), TRAINYARD_BUDGET="10", TRAINYARD_PRICE="1")
    before = PaidPod("q", 4.0, 0.0, ended=HOUR)
    tell_budget(LocalTransport(), record(budget=10.0, pod=RunPod(price_per_hour=3.0), pods=[before]), pod)
    w.tick()
    assert w.budget_stop is not None
    assert w.budget_stop.left(clock) == pytest.approx((10 - 4) / 3 * HOUR - HOUR / 2, abs=30)


def test_without_a_budget_nothing_is_told(tmp_path: Path, pod: ReachablePod) -> None:
    tell_budget(LocalTransport(), record(pod=RunPod(price_per_hour=3.0)), pod)
    assert not list(tmp_path.rglob("budget.json"))


def test_a_beat_is_heard_and_an_idle_pod_lives_on(tmp_path: Path, pod: ReachablePod) -> None:
    clock, ended = TurnedClock(), Ended()
    w = make(tmp_path, clock, ended, TRAINYARD_HEARTBEAT_MINUTES="1")
    clock.go(59)
    beat(LocalTransport(), pod)
    w.tick()
    clock.go(59)
    w.tick()
    assert ended.calls == []


def test_a_beat_brings_back_that_the_job_has_stalled_and_nothing_of_another_stop(tmp_path: Path, pod: ReachablePod) -> None:
    assert beat(LocalTransport(), pod) == ""
    watchdog = tmp_path / ".trainyard/watchdog"
    watchdog.mkdir(parents=True)
    for status, told in (
        ({"state": "stopping", "reason": "the budget is used up", "stalled": False}, ""),
        ({"state": "stopping", "reason": "the job has stalled", "stalled": True}, "the job has stalled"),
    ):
        (watchdog / "status.json").write_text(json.dumps(status))
        assert beat(LocalTransport(), pod) == told
    (watchdog / "status.json").write_text('{"half')
    assert beat(LocalTransport(), pod) == ""


def test_while_data_are_sent_the_pod_hears_of_its_controller_also_after_a_lost_link(
    tmp_path: Path, pod: ReachablePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, TurnedClock(), Ended())
    links = iter([None, LocalTransport()])

    def connect(self: ReachablePod, *, timeout: float = 15.0) -> LocalTransport:
        from trainyard.errors import Unreachable

        found = next(links, None)
        if found is None:
            raise Unreachable("lost")
        return found

    monkeypatch.setattr(ReachablePod, "connect", connect)
    monkeypatch.setattr(heartbeat, "EVERY", 0.02)
    with beating(pod):
        until = time.monotonic() + 20
        while not (tmp_path / ".trainyard/watchdog/heartbeat").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
