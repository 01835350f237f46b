"""A watchdog under test: its lease, what it was told to end, a job under the job-directory protocol."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.pod.clock import TurnedClock
from trainyard.pod.watchdog import EndingMethod, Refused, Watchdog, format_time

HOUR = 3600.0


class Ended:
    """Ways of ending that note what was asked of them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.refusing: set[str] = set()

    def way(self, name: str, prove: Callable[[], float | None] = lambda: None) -> EndingMethod:
        def end(reason: str) -> None:
            self.calls.append((name, reason))
            if name in self.refusing:
                raise Refused("HTTP 500")

        return EndingMethod(name, prove, end)


def make(tmp_path: Path, clock: TurnedClock, ended: Ended, ways: list[EndingMethod] | None = None, **env: str) -> Watchdog:
    """Return a watchdog whose lease stops in two hours and ends half an hour later."""
    base = {
        "WORKSPACE": str(tmp_path),
        "TRAINYARD_LEASE_ID": "0123456789",
        "TRAINYARD_STOP": format_time(clock.wall() + 2 * HOUR),
        "TRAINYARD_END": format_time(clock.wall() + 2.5 * HOUR),
    }
    return Watchdog({**base, **env}, clock, [ended.way("a")] if ways is None else ways)


def status(tmp_path: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads((tmp_path / ".trainyard/watchdog/status.json").read_text())
    return value


def folder(tmp_path: Path) -> Path:
    return tmp_path / ".trainyard" / "watchdog"


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
