"""A wrong clock of this machine costs no training: what is due is due by the pod's clock, too."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainyard.clock import format_time
from trainyard.config import places
from trainyard.errors import Unreachable
from trainyard.remote import jobs
from trainyard.remote.protocol import CommandResult
from trainyard.runs.context import CommandContext
from trainyard.runs.life import follow
from trainyard.runs.life.group import GroupWatch
from trainyard.runs.life.sshlink import SshSession
from trainyard.runs.records.parts import RunPod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A watch over a run whose lease stops in an hour by the pod's clock; the pod's clock and the machine's are given."""

    def make(*, pod_says: float | None, budget: float | None = None) -> Any:
        now = time.time()
        stop, end = (_text(now + hours * HOUR) for hours in (1, 1.5))
        record = RunRecord(
            "ann", "a", 1, "lab", "command", {}, "0", 1.0, now, phase="started", cloud="local", budget=budget,
            pod=RunPod(pod_id="p1", price_per_hour=2.0, stop=stop, end=end, lease_id="l", created_epoch=now),
        )  # fmt: skip
        folder = RunFolder(record.id.folder(tmp_path))
        folder.save(record)
        folder.log.touch()
        screen = io.StringIO()

        def answer(command: str, stdin: Any = None, *, timeout: int | None = None, on_stdout: Any = None) -> CommandResult:
            if pod_says is None:
                raise Unreachable("no route")
            return CommandResult(0, f"{now + pod_says:.0f}\n".encode(), b"")

        pod: Any = SimpleNamespace(id="p1", path=lambda *parts: "/".join(parts))
        context = CommandContext(places(tmp_path, {"HOME": str(tmp_path)}), {}, Ui(stream=screen))
        transport: Any = SimpleNamespace(exec=answer)
        plan: Any = SimpleNamespace(tick=lambda: None)
        session = SshSession(pod, transport, plan)
        watch = follow._Watch(context, record, folder, pod, session, GroupWatch(context, record, []))
        stopped: list[float] = []
        monkeypatch.setattr(jobs, "stop", lambda t, folder, grace: stopped.append(grace))
        monkeypatch.setattr(follow, "_STOP_AGAIN", 0.0)

        def tick(at: float) -> list[float]:
            monkeypatch.setattr(time, "time", lambda: now + at)
            watch.tick()
            if watch.stopping is not None:
                watch.stopping.join(5)
            return stopped

        return SimpleNamespace(tick=tick, record=record, folder=folder, screen=screen, watch=watch)

    return make


def _text(epoch: float) -> str:
    return format_time(datetime.fromtimestamp(epoch, UTC))


def test_a_clock_that_is_ahead_does_not_stop_a_training_and_is_told_once(watched: Callable[..., Any]) -> None:
    it = watched(pod_says=60.0)

    assert it.tick(DAY) == [] and it.tick(DAY + 1) == []

    assert it.screen.getvalue().count("ahead of the pod's, which counts: the training goes on") == 1
    assert it.record.stop_reason is None


def test_a_budget_is_not_used_up_by_a_clock_that_is_ahead(watched: Callable[..., Any]) -> None:
    it = watched(pod_says=60.0, budget=1.25)

    assert it.tick(0.75 * HOUR) == [] and "ahead of the pod's" in it.screen.getvalue()


def test_a_budget_stops_the_training_while_what_is_left_pays_for_bringing_its_result_to_safety(watched: Callable[..., Any]) -> None:
    it = watched(pod_says=0.6 * HOUR, budget=2.0)

    assert it.tick(0.5 * HOUR - 60) == []
    assert len(it.tick(0.5 * HOUR + 60)) == 1 and it.record.stop_reason == "the budget of $2.00 is used up"


def test_a_lease_that_is_over_by_both_clocks_stops_the_training_with_half_of_what_is_left(watched: Callable[..., Any]) -> None:
    it = watched(pod_says=HOUR + 60)

    (grace,) = it.tick(HOUR + 60)

    assert it.record.stop_reason == "its lease's stop has come" and grace == pytest.approx((0.5 * HOUR - 60) / 2, abs=2)


def test_a_cancel_under_a_wrong_clock_leaves_the_training_its_time_to_save(watched: Callable[..., Any]) -> None:
    it = watched(pod_says=60.0)
    it.folder.cancel(now=False)

    (grace,) = it.tick(DAY)

    assert grace == follow.STOP_GRACE


def test_a_pod_that_cannot_be_asked_is_not_stopped_by_this_clock_alone(watched: Callable[..., Any]) -> None:
    assert watched(pod_says=None).tick(DAY) == []


def test_a_cancel_says_at_once_how_long_saving_may_take_and_what_ends_the_pod_now(watched: Callable[..., Any]) -> None:
    it = watched(pod_says=0.0)
    it.folder.cancel(now=False)

    assert it.tick(0.0) == [300.0]

    told = it.screen.getvalue()
    assert "stopped and saved, which may take 5m00s at most" in told and "invoke cancel ann/a --now ends the pod at once" in told
