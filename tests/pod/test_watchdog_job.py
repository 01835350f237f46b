"""What the watchdog does to the job: asks it to save at stop, keeps the budget, never takes a model away."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pod.clock import TurnedClock
from tests.pod.lease import HOUR, Ended, Job, folder, make, status
from trainyard.pod.watchdog import format_time

_SAVING = 'trap "echo saved; exit 7" TERM; echo ready; while :; do sleep 0.05; done'


def test_at_stop_the_job_is_asked_to_save_and_its_verdict_is_written(tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job) -> None:
    job.start(_SAVING)
    job.wait_for(lambda: "ready" in job.log())
    w = make(tmp_path, clock, ended)
    clock.go(2 * HOUR)
    w.tick()
    job.wait_for(lambda: (job.folder / "exit").exists())
    assert (job.folder / "exit").read_text().strip() == "7"
    assert "saved" in job.log()
    assert ended.calls == [] and status(tmp_path)["state"] == "stopping"


def test_a_job_is_asked_once_and_never_killed_before_end(tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job) -> None:
    job.start('trap "echo asked" TERM; echo ready; while :; do sleep 0.05; done')
    job.wait_for(lambda: "ready" in job.log())
    w = make(tmp_path, clock, ended)
    clock.go(2 * HOUR)
    for _ in range(3):
        w.tick()
        clock.go(60)
        job.wait_for(lambda: "asked" in job.log())
        time.sleep(0.15)
    assert job.log().count("asked") == 1 and job.process is not None and job.process.poll() is None


def test_where_a_pod_cannot_end_itself_its_job_is_killed_at_the_end(tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job) -> None:
    job.start('trap "echo asked" TERM; echo ready; while :; do sleep 0.05; done')
    job.wait_for(lambda: "ready" in job.log())
    w = make(tmp_path, clock, ended, ways=[])
    clock.go(2.5 * HOUR - 1)
    w.tick()
    job.wait_for(lambda: "asked" in job.log())
    assert job.process is not None and job.process.poll() is None
    clock.go(2)
    w.tick()
    assert job.process.wait(10) != 0 and status(tmp_path)["state"] == "ending"


def test_a_job_started_after_stop_is_stopped_too(tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job) -> None:
    w = make(tmp_path, clock, ended)
    clock.go(2 * HOUR)
    w.tick()
    job.start(_SAVING)
    job.wait_for(lambda: "ready" in job.log())
    w.tick()
    job.wait_for(lambda: (job.folder / "exit").exists())


def test_a_pid_file_left_from_before_a_restart_hits_nobody(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    (tmp_path / "job").mkdir()
    (tmp_path / "job/pid").write_text(str(bystander.pid))
    (tmp_path / "job/lock").write_text("")
    w = make(tmp_path, clock, ended)
    clock.go(2 * HOUR)
    w.tick()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_silence_never_ends_a_pod_whose_job_runs(tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job) -> None:
    (tmp_path / ".trainyard").mkdir()
    (tmp_path / ".trainyard/committed").write_text("of an earlier job")
    job.start("exec sleep 60")
    w = make(tmp_path, clock, ended, TRAINYARD_HEARTBEAT_MINUTES="1")
    clock.go(HOUR)
    w.tick()
    assert ended.calls == []


def test_a_used_up_budget_means_stop_then_the_rescue_time_then_end(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    # 1 dollar at 1 dollar an hour, half an hour of it for the rescue: stop after 30 minutes.
    w = make(tmp_path, clock, ended, TRAINYARD_BUDGET="1", TRAINYARD_PRICE="1")
    clock.go(0.5 * HOUR - 1)
    w.tick()
    assert w.state == "watching"
    clock.go(1)
    w.tick()
    assert w.state == "stopping" and "budget" in w.reason
    clock.go(0.5 * HOUR - 1)
    w.tick()
    assert ended.calls == []
    clock.go(1)
    w.tick()
    assert len(ended.calls) == 1


def test_a_restart_does_not_start_the_rescue_time_again(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    lease: dict[str, Any] = {
        "TRAINYARD_STOP": format_time(clock.wall() + 2 * HOUR),
        "TRAINYARD_END": format_time(clock.wall() + 2.5 * HOUR),
    }
    w = make(tmp_path, clock, ended, TRAINYARD_BUDGET="1", TRAINYARD_PRICE="1", **lease)
    clock.go(0.5 * HOUR)
    w.tick()
    clock.go(0.4 * HOUR)
    restarted = make(tmp_path, clock, ended, TRAINYARD_BUDGET="1", TRAINYARD_PRICE="1", **lease)
    restarted.tick()
    clock.go(0.1 * HOUR)
    restarted.tick()
    assert len(ended.calls) == 1


def test_a_budget_larger_than_the_lease_changes_nothing(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_BUDGET="1000", TRAINYARD_PRICE="1")
    clock.go(2.5 * HOUR)
    w.tick()
    assert ended.calls[0][1] == "the lease is over"


def test_a_budget_used_up_near_the_end_never_moves_the_end_back(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_STOP="", TRAINYARD_END=format_time(clock.wall() + 600))
    (folder(tmp_path) / "budget.json").write_text(json.dumps({"budget": 1, "spent": 1, "price": 1, "time": clock.wall()}))
    w.tick()
    assert w.state == "stopping"
    clock.go(600)
    w.tick()
    assert len(ended.calls) == 1


def test_what_controllers_write_about_the_budget_counts(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended)
    (folder(tmp_path) / "budget.json").write_text(json.dumps({"budget": 10, "spent": 9.4, "price": 1, "time": clock.wall()}))
    w.tick()
    clock.go(0.1 * HOUR + 1)
    w.tick()
    assert w.state == "stopping"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"budget": "much"}', '{"budget": NaN, "price": 1}', '{"budget": 1e400, "price": 1}'])
def test_nonsense_about_the_budget_changes_nothing(tmp_path: Path, clock: TurnedClock, ended: Ended, text: str) -> None:
    w = make(tmp_path, clock, ended)
    (folder(tmp_path) / "budget.json").write_text(text)
    w.tick()
    clock.go(HOUR)
    w.tick()
    assert w.state == "watching"
