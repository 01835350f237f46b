"""The plan in the watchdog's memory: who may leave one, who sees it, when its fork runs, and when the pod ends for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pod.clock import TurnedClock
from tests.pod.lease import HOUR, Ended, Job
from tests.pod.test_watchdog_process import boot, status, wait_for, watchdogs
from trainyard.pod import tell, watchdog
from trainyard.pod.watchdog import HeldPlan, Watchdog, format_time

SECRET, OTHER = "s" * 64, "o" * 64
LEASE = "0123456789"
DONE = 'def commit_alone(order, say):\n    say(event="committed", what=str(order["ending"]))\n    return 0\n'
HANGS = 'import time\ndef commit_alone(order, say):\n    say(event="pending", state={"at": 1})\n    time.sleep(60)\n'
FAILS = 'def commit_alone(order, say):\n    raise OSError("no such store")\n'

__all__ = ["watchdogs"]


def say(lease: str, **message: Any) -> Any:
    """Send a message as a controller does, by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", tell.__file__, lease, "p"], input=zlib.compress(json.dumps(message).encode()), capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    return json.loads(done.stdout) if done.returncode == 0 else done.returncode


def plan(program: str = DONE, **more: Any) -> dict[str, Any]:
    return {"upload": "u1", "program": [["trainyard_lone.program", program]], "silence": 300, **more}


def test_the_first_secret_of_a_pod_is_the_only_one_that_counts(tmp_path: Path, watchdogs: Callable[[], list[int]]) -> None:
    assert say(LEASE, secret=SECRET) == 3
    boot(tmp_path)
    wait_for(lambda: status(tmp_path).get("armed"))

    assert say(LEASE, secret=SECRET)["until"] is None
    assert say(LEASE, secret=OTHER, plan=plan(), until=1e10) == {"error": "another"}
    assert say(LEASE, plan=plan(), until=1e10) == {"error": "no secret"}
    assert say(LEASE, secret=SECRET, plan=plan(), until=1e10)["upload"] == "u1"
    assert say(LEASE, secret=OTHER)["error"] == "another"


def test_a_plan_outlives_the_watchdog_and_lies_in_no_file_and_no_line(tmp_path: Path, watchdogs: Callable[[], list[int]]) -> None:
    boot(tmp_path)
    wait_for(lambda: status(tmp_path).get("armed"))
    first = status(tmp_path)["pid"]
    say(LEASE, secret=SECRET, plan=plan(url="https://store/secret-url"), until=1e10)

    os.kill(first, signal.SIGKILL)
    wait_for(lambda: status(tmp_path).get("pid") not in (None, first))

    assert say(LEASE, secret=OTHER)["error"] == "another"
    assert say(LEASE, secret=SECRET)["upload"] == "u1"
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    lines = [Path(f"/proc/{pid}/{name}").read_bytes() for pid in watchdogs() for name in ("cmdline", "environ")]
    assert not [text for text in files + lines if b"secret-url" in text or SECRET.encode() in text]
    assert "2286" in status(tmp_path)["alone"]


_LOOK = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 19, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", "open('/proc/%s/mem', 'rb')" % sys.argv[1]])
"""


def test_no_program_without_the_right_to_trace_sees_the_memory_of_the_watchdog(tmp_path: Path, watchdogs: Callable[[], list[int]]) -> None:
    boot(tmp_path)
    wait_for(lambda: len(watchdogs()) == 2)
    wait_for(lambda: status(tmp_path).get("armed"))
    for pid in watchdogs():
        done = subprocess.run([sys.executable, "-c", _LOOK, str(pid)], capture_output=True, text=True, check=False, timeout=60)
        assert "PermissionError" in done.stderr


class Lone:
    """A watchdog whose clock is turned, with a plan."""

    def __init__(self, tmp_path: Path, program: str, **more: Any) -> None:
        self.clock, self.ended = TurnedClock(), Ended()
        times = {"TRAINYARD_STOP": format_time(self.clock.wall() + 2 * HOUR), "TRAINYARD_END": format_time(self.clock.wall() + 2.5 * HOUR)}
        self.held = HeldPlan({})
        self.watchdog = Watchdog({"WORKSPACE": str(tmp_path), **times}, self.clock, [self.ended.way("a")], self.held)
        self.tell(plan=plan(program, **more), until=1e10)

    def tell(self, **message: Any) -> dict[str, object]:
        assert self.watchdog.alone is not None
        return self.watchdog.alone.answer({"secret": SECRET, **message})

    def settle(self) -> None:
        """Tick until the fork is done."""
        wait_for(self.is_done)

    def is_done(self) -> bool:
        self.watchdog.tick()
        assert self.watchdog.alone is not None
        return self.text.split(":")[0] in ("committed", "failed") and not self.watchdog.alone.child

    @property
    def text(self) -> str:
        assert self.watchdog.alone is not None
        return self.watchdog.alone.text


def finished(tmp_path: Path, code: int = 0) -> None:
    (tmp_path / "job").mkdir(exist_ok=True)
    (tmp_path / "job/pid").write_text("1")
    (tmp_path / "job/exit").write_text(f"{code}\n")


def test_a_silent_pod_whose_training_is_over_commits_and_ends(tmp_path: Path) -> None:
    finished(tmp_path, 3)
    w = Lone(tmp_path, DONE)
    w.clock.go(299)
    w.watchdog.tick()
    assert w.text.startswith("ready")

    w.clock.go(2)
    w.settle()
    w.watchdog.tick()

    assert "'exit_code': 3" in w.text
    assert set(w.ended.calls) == {("a", "no controller was heard of, and what the training left is committed")}


def test_a_controller_that_came_back_is_in_charge(tmp_path: Path) -> None:
    finished(tmp_path)
    w = Lone(tmp_path, HANGS)
    w.clock.go(301)
    w.watchdog.tick()
    assert w.text == "committing" and w.watchdog.alone is not None
    wait_for(lambda: (w.watchdog.tick(), w.held.load().get("pending"))[1])

    w.tell()
    w.watchdog.tick()

    assert w.text == "a controller came back" and w.watchdog.alone.child == 0


def test_a_controller_that_comes_back_after_the_commit_ends_the_pod_itself(tmp_path: Path) -> None:
    finished(tmp_path)
    w = Lone(tmp_path, DONE)
    assert w.watchdog.alone is not None
    w.watchdog.alone.content["committed"] = True
    w.watchdog.tick()
    w.clock.go(299)
    w.watchdog.tick()
    assert w.ended.calls == []
    w.clock.go(2)
    w.watchdog.tick()
    assert len(w.ended.calls) == 1


def test_nothing_is_committed_while_a_training_runs_and_may_still_end(tmp_path: Path, job: Job) -> None:
    job.start('trap "" TERM; while :; do sleep 0.05; done')
    wait_for(lambda: (tmp_path / "job/pid").exists())
    w = Lone(tmp_path, DONE)
    w.clock.go(2 * HOUR + 60)
    w.watchdog.tick()
    assert w.text.startswith("ready") and w.watchdog.state == "stopping"

    w.clock.go(HOUR / 4)
    w.settle()
    w.watchdog.tick()

    assert "the lease's stop has come; it still ran when its time to save was half over" in w.text
    assert w.ended.calls == [], "what runs may run until its lease is over"


def test_near_the_end_of_the_lease_a_shorter_silence_is_enough(tmp_path: Path) -> None:
    finished(tmp_path)
    w = Lone(tmp_path, DONE, silence=3000)
    w.clock.go(2.5 * HOUR - 900)
    w.tell()
    w.clock.go(90)
    w.watchdog.tick()
    assert w.text.startswith("ready")

    w.clock.go(20)
    w.settle()
    assert w.text.startswith("committed")


def test_what_fails_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    finished(tmp_path)
    w = Lone(tmp_path, FAILS)
    w.clock.go(301)
    w.settle()
    assert w.text == "failed: OSError: no such store" and w.ended.calls == []
    assert w.watchdog.alone is not None and w.watchdog.alone.next_try == pytest.approx(w.clock.boot() + 10)

    w.clock.go(11)
    w.watchdog.tick()
    assert w.text == "committing"
    w.settle()
    assert w.watchdog.alone.next_try == pytest.approx(w.clock.boot() + 20)


@pytest.mark.parametrize("verdict", ["--5", "\u00b2", "yes", "9" * 5000])
def test_a_verdict_that_is_no_number_stops_no_clock(verdict: str, tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "job/exit").write_text(verdict, encoding="utf-8")
    w = Lone(tmp_path, DONE)
    w.clock.go(301)
    w.settle()
    assert "'exit_code': None" in w.text


def test_slow_talkers_do_not_hold_up_the_end_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "MESSAGE_SECONDS", 0.1)
    held = HeldPlan({"TRAINYARD_LEASE_ID": f"slow{os.getpid()}"})
    waiting: list[socket.socket] = []

    def talk() -> None:
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].connect(f"\0trainyard-watchdog-slow{os.getpid()}-")
        waiting[-1].sendall(b"x")

    assert held.socket is not None
    accept = held.socket.accept
    talk()

    class Listener:
        """Another one talks as soon as one is heard."""

        def accept(self) -> Any:
            if len(waiting) < 50:
                talk()
            return accept()

    listener, held.socket = held.socket, Listener()  # type: ignore[assignment]
    began = time.monotonic()
    held.serve(lambda said: {})
    assert time.monotonic() - began < 2
    for one in (*waiting, listener):
        assert one is not None
        one.close()
