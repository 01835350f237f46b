"""The watchdog's rules, with a turned clock: each test attacks one way in which a pod could outlive its lease, or a model be lost."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pod.clock import TurnedClock
from tests.pod.lease import HOUR, Ended, folder, make, status
from trainyard.pod import watchdog
from trainyard.pod.watchdog import Refused, format_time


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
    lease: dict[str, Any] = {"TRAINYARD_END": format_time(clock.wall() + HOUR), "TRAINYARD_STOP": ""}
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


def test_the_budget_that_a_controller_tells_counts_earlier_pods_and_the_real_price(
    tmp_path: Path, clock: TurnedClock, ended: Ended
) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_BUDGET="10", TRAINYARD_PRICE="1")
    told = folder(tmp_path) / "budget.json"
    told.write_text(json.dumps({"budget": 10.0, "spent": 4.0, "price": 4.0}))
    os.utime(told, (clock.wall(), clock.wall()))
    w.tick()
    assert w.budget_stop is not None
    assert w.budget_stop.left(clock) == pytest.approx((10 - 4) / 4 * HOUR - HOUR / 2), "the rescue time is within the budget"


def test_half_a_budget_file_changes_nothing(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_BUDGET="2", TRAINYARD_PRICE="1")
    before = w.budget_stop
    (folder(tmp_path) / "budget.json").write_text('{"bud')
    w.tick()
    assert before is not None and w.budget_stop == before


def test_the_next_look_comes_when_the_silence_has_lasted_long_enough(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended, TRAINYARD_HEARTBEAT_MINUTES="1")
    clock.go(58)
    assert w.tick() == pytest.approx(2.0)


def test_the_next_look_is_never_after_a_deadline(tmp_path: Path, clock: TurnedClock, ended: Ended) -> None:
    w = make(tmp_path, clock, ended)
    clock.go(2.5 * HOUR - 0.5)
    assert w.tick() <= 0.5


def test_the_file_needs_nothing_but_python_3_8_and_its_library() -> None:
    source = Path(watchdog.__file__).read_text()
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
        "import sys; sys.path.insert(0, sys.argv[1]); import watchdog; "
        "w = watchdog.Watchdog({'WORKSPACE': sys.argv[2], 'TRAINYARD_END': '2001-01-01T00:00:00Z'}, watchdog.PodClock()); print(w.tick())"
    )
    command = [str(found[-1]), "-W", "error", "-c", code, os.path.dirname(watchdog.__file__), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2.0", done.stderr
