"""What the watchdog does about a pod that nobody uses, a job that has stalled, and a pod that is kept for a look."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pod.clock import TurnedClock
from tests.pod.lease import HOUR, Ended, Job, folder, make, status
from trainyard.pod import watchdog
from trainyard.pod.watchdog import Watchdog, gpu_is_busy, somebody_is_logged_in


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path)
    yield made
    made.end()


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in and no GPU works, unless a test says so: the machine of the tests is not the pod."""
    monkeypatch.setattr(watchdog, "somebody_is_logged_in", lambda: False)
    monkeypatch.setattr(watchdog, "gpu_is_busy", lambda: False)


def look(w: Watchdog, clock: TurnedClock, seconds: float) -> None:
    """Let time pass as the watchdog sees it: a look every quarter of a minute."""
    for _ in range(int(seconds // 15)):
        clock.go(15)
        w.tick()


def test_a_pod_without_a_job_and_without_anybody_on_it_ends_after_the_set_time(
    tmp_path: Path, clock: TurnedClock, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [True]
    monkeypatch.setattr(watchdog, "somebody_is_logged_in", lambda: here[0])
    w = make(tmp_path, clock, ended, TRAINYARD_IDLE_MINUTES="20")
    look(w, clock, HOUR)
    assert ended.calls == []
    here[0] = False
    look(w, clock, 19 * 60)
    assert ended.calls == []
    look(w, clock, 90)
    assert ended.calls[0] == ("a", "idle for 20 minutes: no job runs, and nobody is logged in")


def test_a_job_and_a_result_that_is_not_safe_keep_a_pod_from_being_idle(tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_IDLE_MINUTES="5")
    job.start("echo ready; sleep 60")
    look(w, clock, HOUR)
    job.end()
    look(w, clock, HOUR / 2)
    assert ended.calls == [], "what the job left is not committed"
    (tmp_path / ".trainyard" / "committed").write_text("")
    look(w, clock, 6 * 60)
    assert len(ended.calls) >= 1


def test_without_a_set_time_nothing_is_idle_and_nothing_stalls(tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job) -> None:
    w = make(tmp_path, clock, ended)
    job.start("echo ready; sleep 60")
    look(w, clock, 1.9 * HOUR)
    assert (ended.calls, w.state) == ([], "watching")


def test_a_job_that_writes_nothing_while_no_gpu_works_is_stopped_and_its_pod_ends_after_the_rescue_time(
    tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job
) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_STALL_MINUTES="10")
    job.start('trap "echo saved; exit 9" TERM; echo ready; while :; do sleep 0.1; done')
    look(w, clock, 9 * 60)
    assert w.state == "watching"
    look(w, clock, 2 * 60)
    assert status(tmp_path)["reason"] == "the job has stalled: for 10 minutes it wrote nothing, and no GPU was busy"
    assert status(tmp_path)["stalled"] is True
    job.wait_for(lambda: (tmp_path / "job" / "exit").exists())
    assert "saved" in job.log()
    assert w.end is not None and w.end.left(clock) <= HOUR / 2


def test_a_job_that_writes_and_one_whose_gpu_works_have_not_stalled(
    tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_STALL_MINUTES="10")
    job.start("echo ready; sleep 60")
    deep = tmp_path / "output" / "model" / "shard"
    deep.parent.mkdir(parents=True)
    for number in range(4):
        look(w, clock, 9 * 60)
        deep.write_text("x")
        os.utime(deep, (number + 1, time.time() + number))
    monkeypatch.setattr(watchdog, "gpu_is_busy", lambda: True)
    w.stall.gpus = watchdog.gpu_is_busy
    look(w, clock, HOUR)
    assert w.state == "watching"


def test_a_kept_pod_outlives_silence_and_ends_by_itself_when_its_time_is_over(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_HEARTBEAT_MINUTES="1", TRAINYARD_IDLE_MINUTES="1")
    kept = folder(tmp_path) / "keep.json"
    kept.write_text(json.dumps({"seconds": 1800}))
    os.utime(kept, (clock.wall(), clock.wall()))
    look(w, clock, 29 * 60)
    assert ended.calls == []
    look(w, clock, 2 * 60)
    assert ended.calls[0] == ("a", "it was kept for a look until now")


def test_a_kept_pod_never_outlives_its_lease_and_half_a_word_keeps_none(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended)
    kept = folder(tmp_path) / "keep.json"
    kept.write_text('{"sec')
    w.tick()
    assert w.keep_until is None
    kept.write_text(json.dumps({"seconds": 1e6}))
    os.utime(kept, (clock.wall(), clock.wall()))
    w.tick()
    clock.go(2.5 * HOUR)
    w.tick()
    assert ended.calls == [("a", "the lease is over")]


@pytest.mark.parametrize("env", [{"SSH_CONNECTION": "10.0.0.1 5000 10.0.0.2 22"}, {}])
def test_what_an_ssh_session_has_started_counts_as_somebody(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    sleeper = subprocess.Popen(["sleep", "60"], env=env)
    everybody = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [str(sleeper.pid)] if path == "/proc" else everybody(path))
    try:
        time.sleep(0.02)
        assert somebody_is_logged_in() is bool(env)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_driver_that_does_not_answer_is_no_idle_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    answers = {"echo 0; echo 42": True, "echo 0; echo 1": False, "exit 9": True, "echo '[N/A]'": True}
    for says, busy in answers.items():
        tool.write_text(f"#!/bin/sh\n{says}\n")
        tool.chmod(0o755)
        assert gpu_is_busy() is busy, says
    tool.unlink()
    if not shutil.which("nvidia-smi"):
        assert not gpu_is_busy()


def test_what_asks_the_driver_is_given_none_of_the_pod_s_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nenv >{tmp_path}/seen; echo 0\n")
    tool.chmod(0o755)
    for name, value in (
        ("RUNPOD_API_KEY", "one"),
        ("OTHER", "two"),
        ("TRAINYARD_POD_KEYS", "OTHER"),
        ("PATH", f"{tmp_path}:{os.environ['PATH']}"),
    ):
        monkeypatch.setenv(name, value)
    assert not gpu_is_busy()
    seen = (tmp_path / "seen").read_text()
    assert "TRAINYARD_POD_KEYS=OTHER" in seen and "RUNPOD_API_KEY" not in seen and "OTHER=two" not in seen
