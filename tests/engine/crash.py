"""Crash points: SIGKILL at each write of the state file and around each provider call, counted, none left out.

The points of an operation are found by running it once with counters. Then it is run again for each point and
killed there; what follows must find a readable state, no secret in the clear, and leave nothing in the cloud.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.engine.bench import Bench, Ended, cli_found, mask, misplaced, new_bench
from tests.engine.cases import Spec, edit, pod, without

SECRETS = ("hush-token", "hush-export", "pw-")
PROGRAM: Spec = [
    pod("lease"),
    pod("pod", {"additional_secret_outputs": ["ip"]}, gpu="H100", label="a", lease="@lease", token="!hush-token"),
    {"kind": "box", "name": "box"},
    pod("inner", {"parent": "box"}, label="a", lease="@lease"),
    pod("user", host="@pod.cloudName", zone="@pod.cloudName"),
    {"kind": "export", "name": "token", "value": "!hush-export"},
]
OPERATIONS: dict[str, tuple[str, Spec]] = {
    "up": ("up", PROGRAM),
    "update": ("up", edit(PROGRAM, "pod", label="b")),
    "replace": ("up", edit(PROGRAM, "pod", gpu="B200")),
    "create first": ("up", edit(PROGRAM, "inner", zone="2")),
    "remove": ("up", without(PROGRAM, "box", "inner")),
    "refresh": ("refresh", PROGRAM),
    "destroy": ("destroy", PROGRAM),
}


@dataclass(frozen=True)
class Point:
    """Kill at the n-th pass of a site."""

    operation: str
    site: str
    number: int

    def __str__(self) -> str:
        return f"{self.operation} / {self.site} {self.number}"


def points(operation: str) -> list[Point]:
    """Return all crash points of an operation: run it once and count."""
    bench = _ready(operation)
    counts = bench.root / "counts.json"
    verb, spec = OPERATIONS[operation]
    bench.env["PULUMI_PARALLEL"] = "1"  # steps side by side share writes: one at a time there are most
    ended = bench.engine(verb, spec=spec, before=partial(_arm, partial(_count, counts)))
    assert ended.code == 0, ended.text
    found = json.loads(counts.read_text())
    shutil.rmtree(bench.root, ignore_errors=True)
    result = [Point(operation, site, n) for site, total in sorted(found.items()) for n in range(1, total + 1)]
    if operation in ("up", "replace"):  # the cloud has accepted, no reply yet
        names = ["lease", "pod", "inner", "user"] if operation == "up" else ["pod"]
        result += [Point(operation, f"in create of {name}", 1) for name in names]
    return result


def check(point: Point, follows: list[str]) -> dict[str, list[str]]:
    """Crash at a point, then go on in each way from what that left; returns what is wrong, by way.

    The ways: ``destroy``, ``up`` (then destroy) or ``cli`` (its destroy, then ours). What the CLI (ten times as
    slow) does depends on nothing but the files: it goes on once from files that are alike.
    """
    bench, problems = _crash(point)
    found = {}
    for follow in follows:
        known = _known_files(bench) if follow == "cli" else None
        if known is not None and known.exists():
            found[follow] = [*problems, *json.loads(known.read_text())]
            continue
        outcome = _follow(bench.copy(), follow)
        found[follow] = [*problems, *outcome]
        if known is not None:
            known.write_text(json.dumps(outcome))
    shutil.rmtree(bench.root, ignore_errors=True)
    return found


def _follow(bench: Bench, follow: str) -> list[str]:
    problems = _go_on(bench, follow)
    if bench.things():
        problems.append(f"left in the cloud: {bench.things()}")
    problems += look_at_state(bench)
    if not problems:
        shutil.rmtree(bench.root, ignore_errors=True)
    return problems


def _known_files(bench: Bench) -> Path:
    """Return where this matrix keeps what came of files like these: state, names of files, things in the cloud."""
    names = sorted(mask(str(path.relative_to(bench.state))) for path in bench.state.rglob("*"))
    names = [re.sub(r"\d{15,}", "TIME", name) for name in names]
    text = json.dumps([bench.normal(), names, [mask(thing) for thing in bench.things()]], sort_keys=True)
    folder = Path(tempfile.gettempdir()) / f"ty-crash-{os.getppid()}"
    folder.mkdir(exist_ok=True)
    return folder / hashlib.sha256(text.encode()).hexdigest()


def _crash(point: Point) -> tuple[Bench, list[str]]:
    """Crash at a point and wait until all is still. A write that is shared this time is hit with one step at a time."""
    for parallel in ("", "1"):
        bench = _ready(point.operation)
        if parallel:
            bench.env["PULUMI_PARALLEL"] = parallel
        crashed = _run_to(point, bench)
        if crashed.code == -signal.SIGKILL:
            break
    problems = [] if crashed.code == -signal.SIGKILL else [f"it was not killed: {crashed.code} {crashed.text[-500:]}"]
    bench.faults()
    _settle(bench)
    return bench, problems + look_at_state(bench)


def _run_to(point: Point, bench: Bench) -> Ended:
    verb, spec = OPERATIONS[point.operation]
    if point.site.startswith("in create of "):
        name = point.site.removeprefix("in create of ")
        bench.faults(("create", name, "hang-after"))
        before = partial(_kill_when_there, bench.cloud, name, set(bench.things()))
    else:
        before = partial(_arm, partial(_kill_at, point))
    return bench.engine(verb, spec=spec, before=before)


def look_at_state(bench: Bench) -> list[str]:
    """Return what is wrong with the files of the state: unreadable, out of order, or a secret in the clear."""
    try:
        found = misplaced(bench.latest())
    except Exception as error:
        return [f"the state cannot be read: {error}"]
    for path in bench.state.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            found += [f"{secret} in {path.name}" for secret in SECRETS if secret in text]
    return found


def _ready(operation: str) -> Bench:
    return new_bench() if operation == "up" else _made().copy()


@cache
def _made() -> Bench:
    """Return a bench whose stack is up; made once a process, only copied."""
    bench = new_bench()
    first = bench.engine("up", spec=PROGRAM)
    assert first.code == 0, first.text
    atexit.register(shutil.rmtree, bench.root, ignore_errors=True)
    return bench


def _go_on(bench: Bench, follow: str) -> list[str]:
    steps: list[tuple[str, Ended]] = []
    if follow == "up":
        steps.append(("up", bench.engine("up", spec=PROGRAM)))
        things = [name.rpartition("-")[0] for name in bench.things()]
        if things != ["inner", "lease", "pod", "user"]:
            steps.append((f"the cloud holds {things}", Ended(1, "")))
    if follow == "cli":
        bench.cli("cancel")
        steps.append(("the CLI's destroy", bench.cli("destroy")))
    steps.append(("destroy", bench.engine("destroy")))
    return [f"{what}: exit code {ended.code}: {ended.errors() or ended.text[-600:]}" for what, ended in steps if ended.code]


def _settle(bench: Bench) -> None:
    """Wait until the plugins left behind have seen that their engine is gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _plugins(bench.cloud):
        time.sleep(0.02)


def _plugins(cloud: Path) -> list[int]:
    result = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"toy.py" in command and f"TOY_CLOUD={cloud}".encode() in environment:
                result.append(int(entry.name))
    return result


def _arm(at: Callable[[str, int], None]) -> None:
    """Call ``at(site, n)`` at every site, in the process of the engine."""
    from trainyard.engine import backend, locks
    from trainyard.engine.hook import write_atomic
    from trainyard.engine.plugin import Plugin

    counts: dict[str, int] = {}
    lock = threading.Lock()

    def passing(site: str) -> None:
        with lock:
            counts[site] = counts.get(site, 0) + 1
            at(site, counts[site])

    write, replace = write_atomic, os.replace

    def watched_write(path: Path, content: bytes, **options: Any) -> None:
        state = path.name == "dev.json"
        if state:
            passing("before write")
        write(path, content, **options)
        if state:
            passing("after write")

    def renamed(source: Any, target: Any) -> None:
        if Path(target).name == "dev.json":
            passing("before rename")
        replace(source, target)

    vars(backend)["write_atomic"] = watched_write
    backend.os.replace = renamed  # type: ignore[attr-defined]
    call = Plugin._call

    def watched(self: Plugin, verb: str, urn: str, request: Any, timeout: float | None) -> Any:
        if verb in ("Create", "Update", "Delete", "Read"):
            passing(f"before {verb}")
        answer = call(self, verb, urn, request, timeout)
        if verb in ("Create", "Update", "Delete", "Read"):
            passing(f"after {verb}")
        return answer

    Plugin._call = watched  # type: ignore[method-assign]
    acquire, release = locks.acquire, locks.release

    def acquired(*args: Any) -> Path:
        path = acquire(*args)
        passing("after lock")
        return path

    def released(path: Path) -> None:
        passing("before unlock")
        release(path)

    locks.acquire, locks.release = acquired, released  # type: ignore[assignment]


def _count(path: Path, site: str, number: int) -> None:
    counts = json.loads(path.read_text()) if path.exists() else {}
    counts[site] = number
    path.write_text(json.dumps(counts))


def _kill_at(point: Point, site: str, number: int) -> None:
    if (site, number) == (point.site, point.number):
        _kill()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _kill_when_there(cloud: Path, name: str, before: set[str]) -> None:
    def watch() -> None:
        while True:
            now = {p.stem for p in cloud.glob(f"{name}-*.json")} - before
            if now:
                _kill()
            time.sleep(0.005)

    threading.Thread(target=watch, daemon=True).start()


def follows() -> list[str]:
    """Return the ways to go on after a crash."""
    return ["destroy", "up", *(["cli"] if cli_found() else [])]
