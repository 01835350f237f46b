"""The warden's rules, with a turned clock: each test attacks one way in which a pod could outlive its lease, or a model be lost."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pod.clock import TurnedClock
from trainyard.pod import warden
from trainyard.pod.warden import Refused, Warden, Way, format_time

HOUR = 3600.0


class Ended:
    """Ways of ending that note what was asked of them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.refusing: set[str] = set()

    def way(self, name: str, prove: Callable[[], float | None] = lambda: None) -> Way:
        def end(reason: str) -> None:
            self.calls.append((name, reason))
            if name in self.refusing:
                raise Refused("HTTP 500")

        return Way(name, prove, end)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def ended() -> Ended:
    return Ended()


def make(tmp_path: Path, clock: TurnedClock, ended: Ended, ways: list[Way] | None = None, **env: str) -> Warden:
    """Return a warden whose lease stops in two hours and ends half an hour later."""
    base = {
        "WORKSPACE": str(tmp_path),
        "TRAINYARD_LEASE_ID": "0123456789",
        "TRAINYARD_STOP": format_time(clock.wall() + 2 * HOUR),
        "TRAINYARD_END": format_time(clock.wall() + 2.5 * HOUR),
    }
    return Warden({**base, **env}, clock, [ended.way("a")] if ways is None else ways)


def status(tmp_path: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads((tmp_path / ".trainyard/warden/status.json").read_text())
    return value


def folder(tmp_path: Path) -> Path:
    return tmp_path / ".trainyard" / "warden"


def test_nothing_happens_before_stop_and_the_pod_is_ended_at_end(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended)
    clock.go(2.5 * HOUR - 1)
    w.tick()
    assert ended.calls == []
    clock.go(1)
    w.tick()
    assert ended.calls == [("a", "the lease is over")]


def test_a_wall_clock_set_back_does_not_lengthen_the_lease(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended)
    clock.set_wall(-24 * HOUR)
    clock.go(2.5 * HOUR + 1)
    w.tick()
    assert len(ended.calls) == 1


def test_a_stopped_boot_clock_does_not_lengthen_the_lease(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended)
    clock.set_wall(2.5 * HOUR + 1)
    w.tick()
    assert len(ended.calls) == 1


def test_a_restart_after_the_clock_was_set_back_keeps_the_earlier_deadline(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    lease = {"TRAINYARD_END": format_time(clock.wall() + HOUR), "TRAINYARD_STOP": ""}
    make(tmp_path, clock, ended, **lease)
    clock.set_wall(-10 * HOUR)
    restarted = make(tmp_path, clock, ended, **lease)
    clock.go(HOUR + 1)
    restarted.tick()
    assert len(ended.calls) == 1


def test_deadlines_left_on_a_shared_volume_by_another_pod_do_not_count(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    end = format_time(clock.wall() + HOUR)
    make(tmp_path, clock, ended, RUNPOD_POD_ID="first", TRAINYARD_END=end)
    kept = json.loads((folder(tmp_path) / "deadlines.json").read_text())
    kept["end"][1] -= 10 * HOUR
    (folder(tmp_path) / "deadlines.json").write_text(json.dumps(kept))
    other = make(tmp_path, clock, ended, RUNPOD_POD_ID="second", TRAINYARD_END=end)
    other.tick()
    assert ended.calls == []


def test_an_end_that_cannot_be_read_is_the_longest_lease(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_STOP="", TRAINYARD_END="tomorrow")
    clock.go(31 * 24 * HOUR - 60)
    w.tick()
    assert ended.calls == []
    clock.go(61)
    w.tick()
    assert len(ended.calls) == 1


def test_without_an_end_it_is_not_armed_and_says_so(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_END="", TRAINYARD_STOP="")
    w.write_status()
    assert status(tmp_path)["armed"] is False


def test_ending_is_tried_for_ever_with_growing_pauses_and_every_way(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    ended.refusing = {"a"}
    w = make(tmp_path, clock, ended, [ended.way("a"), ended.way("b")])
    clock.go(3 * HOUR)
    pauses = [w.tick() for _ in range(60)]
    assert pauses == sorted(pauses) and pauses[0] == 2 and pauses[-1] == 60
    assert len([call for call in ended.calls if call[0] == "a"]) == 60


def test_a_way_that_says_yes_and_does_nothing_is_not_trusted_twice(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, [ended.way("liar"), ended.way("honest")])
    clock.go(3 * HOUR)
    w.tick()
    assert [name for name, _ in ended.calls] == ["liar"]
    w.tick()
    assert [name for name, _ in ended.calls] == ["liar", "liar", "honest"]


def test_a_full_disk_does_not_stop_the_end(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    (tmp_path / ".trainyard").write_text("a file where a folder should be: nothing can be written")
    w = make(tmp_path, clock, ended)
    clock.go(3 * HOUR)
    w.tick()
    assert len(ended.calls) == 1


def test_a_proof_that_fails_is_tried_again_and_its_success_is_written(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    answers: list[float | Exception | None] = [Refused("HTTP 503"), Refused("HTTP 503"), None]

    def prove() -> float | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    w = make(tmp_path, clock, ended, [ended.way("a", prove)])
    w.tick()
    assert status(tmp_path)["key_sees_pod"] is False and "503" in str(status(tmp_path)["proof"])
    for _ in range(3):
        clock.go(10)
        w.tick()
    assert status(tmp_path)["key_sees_pod"] is True and answers == []


def test_the_clouds_own_time_makes_up_for_a_pod_whose_clock_is_slow(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, [ended.way("a", lambda: clock.wall() + HOUR)])
    w.tick()
    clock.go(1.5 * HOUR)
    w.tick()
    assert len(ended.calls) == 1


def test_a_silent_controller_ends_an_idle_pod_only_after_the_set_time(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_HEARTBEAT_MINUTES="30")
    clock.go(29 * 60)
    w.tick()
    (folder(tmp_path) / "heartbeat").write_text("")
    w.tick()
    clock.go(29 * 60)
    w.tick()
    assert ended.calls == []
    clock.go(2 * 60)
    w.tick()
    assert "no controller" in ended.calls[0][1]


def test_without_a_set_time_silence_ends_nothing(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended)
    clock.go(2 * HOUR - 1)
    w.tick()
    assert ended.calls == []


@pytest.mark.parametrize("left", ["output/model/adapter.safetensors", "job/log"])
def test_silence_never_ends_a_pod_that_holds_something_uncommitted(tmp_path: Path, clock: TurnedClock, ended: Ended, left: str) -> None:
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).write_text("x")
    w = make(tmp_path, clock, ended, TRAINYARD_HEARTBEAT_MINUTES="1")
    clock.go(HOUR)
    w.tick()
    assert ended.calls == []
    (tmp_path / ".trainyard/committed").write_text("")
    w.tick()
    assert len(ended.calls) == 1


def test_silence_never_ends_a_pod_whose_job_runs(tmp_path: Path, clock: TurnedClock, ended: Ended, job: Job) -> None:
    (tmp_path / ".trainyard").mkdir()
    (tmp_path / ".trainyard/committed").write_text("of an earlier job")
    job.start("exec sleep 60")
    w = make(tmp_path, clock, ended, TRAINYARD_HEARTBEAT_MINUTES="1")
    clock.go(HOUR)
    w.tick()
    assert ended.calls == []


class Job:
    """A real job under the job-directory protocol."""

    def __init__(self, workspace: Path) -> None:
        self.folder = workspace / "job"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, script: str) -> None:
        self.folder.mkdir()
        supervisor = f"""
            trap : TERM INT HUP; cd {self.folder}; exec 9>lock; flock 9; echo $$ >pid
            sh -c '{script}' >log 2>&1 </dev/null; rc=$?; echo $rc >exit.tmp && mv exit.tmp exit
        """
        self.process = subprocess.Popen(["sh", "-c", supervisor], start_new_session=True)
        self.wait_for(lambda: "ready" in self.log() or (self.folder / "pid").exists())

    def log(self) -> str:
        return (self.folder / "log").read_text() if (self.folder / "log").exists() else ""

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for something a process is about to do."""
        for _ in range(1000):
            if condition():
                return
            subprocess.run(["sleep", "0.01"], check=True)
        raise AssertionError("it never happened")

    def end(self) -> None:
        if self.process is not None:
            subprocess.run(["kill", "-KILL", "--", f"-{self.process.pid}"], stderr=subprocess.DEVNULL, check=False)
            self.process.wait()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    job.end()


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
    lease = {"TRAINYARD_STOP": format_time(clock.wall() + 2 * HOUR), "TRAINYARD_END": format_time(clock.wall() + 2.5 * HOUR)}
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


def test_the_next_look_is_never_after_a_deadline(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended)
    clock.go(2.5 * HOUR - 0.5)
    assert w.tick() <= 0.5


def test_the_file_needs_nothing_but_python_3_8_and_its_library() -> None:
    source = Path(warden.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module).partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
def test_it_starts_on_the_pythons_that_are_here(version: str, tmp_path: Path) -> None:
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {version} on this machine")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import warden; "
        "w = warden.Warden({'WORKSPACE': sys.argv[2], 'TRAINYARD_END': '2001-01-01T00:00:00Z'}, warden.Clock()); print(w.tick())"
    )
    command = [str(found[-1]), "-W", "error", "-c", code, os.path.dirname(warden.__file__), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2.0", done.stderr
