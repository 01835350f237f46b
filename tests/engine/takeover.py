"""Takeover: one engine is interrupted in every way, the other goes on. Needs the CLI.

What the CLI loses after a crash (a pending create that it never looks for) the built-in engine must find and
delete at the end: that is checked in both directions.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from tests.engine.bench import Bench, Ended, new_bench
from tests.engine.cases import BASE, Spec, edit, pod, without

_NEW: Spec = [*BASE, pod("new", host="@lease")]
# name -> program to be interrupted, fault, thing whose appearance kills the engine
INTERRUPTIONS: dict[str, tuple[Spec, tuple[tuple[str, str, str], ...], str]] = {
    "nothing": (BASE, (), ""),
    "a failed create": (_NEW, (("create", "new", "error"),), ""),
    "a create that is not ready": (_NEW, (("create", "new", "init"),), ""),
    "a failed update": (edit(BASE, "pod", label="b"), (("update", "pod", "error"),), ""),
    "an update that is not ready": (edit(BASE, "inner", label="b"), (("update", "inner", "init"),), ""),
    "a failed replacement": (edit(BASE, "pod", gpu="B200"), (("create", "pod", "error"),), ""),
    "a failed delete": (without(BASE, "eu", "eupod"), (("delete", "eupod", "error"),), ""),
    "a failed program": ([*BASE, {"kind": "raise", "name": "r"}], (), ""),
    "a kill inside a create": (_NEW, (("create", "new", "hang-after"),), "new"),
    "a kill inside a replacement": (edit(BASE, "pod", gpu="B200"), (("create", "pod", "hang-after"),), "pod"),
}


@dataclass(frozen=True)
class Takeover:
    """Who is interrupted, by what, and who goes on how."""

    first: str
    interruption: str
    second: str
    then: str

    @property
    def name(self) -> str:
        return f"{self.interruption} of {self.first}, then {self.then} by {self.second}"


def takeovers() -> list[Takeover]:
    """Return every combination in which the two engines meet."""
    ways = [("engine", "cli"), ("cli", "engine")]
    return [Takeover(a, what, b, then) for (a, b), what, then in product(ways, INTERRUPTIONS, ("up", "destroy", "preview"))]


def check_takeover(takeover: Takeover) -> list[str]:
    """Run one; return what is wrong."""
    bench = new_bench()
    problems = []
    first, second = _runner(bench, takeover.first), _runner(bench, takeover.second)
    spec, faults, kill_at = INTERRUPTIONS[takeover.interruption]
    begun = first("up", spec=BASE)
    problems += [f"first up: {begun.text[-800:]}"] if begun.code else []
    bench.faults(*faults)
    if kill_at:
        _killed(bench, takeover.first, spec, kill_at)
    else:
        first("up", spec=spec)
    bench.faults()
    bench.calls()
    problems += _second(bench, takeover, second, [item for item in spec if item.get("kind") != "raise"])
    ended = bench.engine("destroy")
    left = [thing for thing in bench.things() if not thing.startswith("extra-")]  # goes with its pod
    if ended.code or left or bench.latest().get("resources") or bench.latest().get("pending_operations"):
        problems.append(f"destroy at the end: {ended.code} {ended.errors()} left {left}")
    if not problems:
        shutil.rmtree(bench.root, ignore_errors=True)
    return problems


def _second(bench: Bench, takeover: Takeover, second: Callable[..., Ended], spec: Spec) -> list[str]:
    killed = bool(INTERRUPTIONS[takeover.interruption][2])
    problems = []
    if killed and takeover.second == "cli":
        locked = bench.cli("up", spec=spec)
        if not locked.code or "currently locked" not in locked.text:
            problems.append(f"the CLI did not see the lock: {locked.text[-500:]}")
        bench.cli("cancel")
    ended = second(takeover.then, spec=spec)
    if ended.code:
        problems.append(f"{takeover.then}: {ended.text[-1500:]}")
    if takeover.then == "preview" and takeover.interruption == "nothing" and bench.calls():
        problems.append(f"the preview called {bench.calls()}")
    if takeover.then == "up":
        if takeover.second == "engine" or not killed:
            again = bench.cli("preview", "--expect-no-changes", spec=spec)
            problems += [f"the CLI sees changes: {again.text[-1500:]}"] if again.code else []
        bench.calls()
        quiet = second("up", spec=spec)
        problems += [f"the second up called {bench.calls()}" for calls in [bench.calls()] if calls or quiet.code]
    return problems


def _runner(bench: Bench, who: str) -> Callable[..., Ended]:
    return bench.cli if who == "cli" else bench.engine


def _killed(bench: Bench, who: str, spec: Spec, name: str) -> None:
    """Start an engine and kill it when the thing has appeared in the cloud."""
    before = set(bench.things())
    bench.spec(spec)
    if who == "engine":
        pid, stream = bench.start("up")
        _when_there(bench, name, before, lambda: os.kill(pid, signal.SIGKILL))
        bench.wait(pid, stream)
    else:
        env = {**bench.env, "PATH": f"{bench.root / 'bin'}:{bench.env['PATH']}"}
        command = ["pulumi", "up", "-f", "-y", "--non-interactive", "--stack", "dev"]
        process = subprocess.Popen(command, cwd=bench.root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _when_there(bench, name, before, process.kill)
        process.wait()
    time.sleep(0.5)  # the plugins left behind see that their engine is gone


def _when_there(bench: Bench, name: str, before: set[str], act: Callable[[], None]) -> None:
    over = threading.Event()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not over.is_set():
        if any(thing.startswith(f"{name}-") for thing in set(bench.things()) - before):
            break
        time.sleep(0.01)
    act()
