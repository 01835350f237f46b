"""Sweep an account of 10,000 pods at the emulated RunPod: by the reaper's own function, and as whole commands with their memory.

Of the pods most are leased, some over, some have an end that cannot be read, some are somebody else's. The emulator is a process of
its own; how long it takes for its list alone is printed, too. 1 when a sweep is slower than promised.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from bench.measure import machine, measure
from trainyard.clouds.marker import PodName, marker_env
from trainyard.clouds.runpod.cloud import RunPodCloud
from trainyard.config import find_root
from trainyard.runs.verbs.reap import Verdict, reap

SWEEP_S = 5.0
_OTHERS: Mapping[int, Verdict] = {0: "foreign", 1: "foreign", 2: "unreadable"}
"""By a pod's number modulo 100; the rest are leased."""
_NEVER = 1e18
"""Epoch seconds at which the emulator looks at a pod's machine: there is none."""
_LIMIT = 1_000_000
"""Requests a minute. RunPod's own 60 would time the waiting."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a sweep is slower than promised or judges a pod wrongly."""
    parser = argparse.ArgumentParser(prog="python -m bench.reaper", description=__doc__)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--over", type=int, default=10, help="how many of them have to be ended")
    parser.add_argument("--args", type=int, default=0, help="bytes of each pod's start arguments: 14000 with an image that is not ours")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-reaper-") as folder:
        cloud, home = Path(folder) / "cloud", Path(folder) / "home"
        expected = _fill(cloud, asked)
        print(f"{asked.pods:,} pods: " + ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(expected.items())))
        with _emulator(cloud) as (env, pid):
            seconds = {what: _swept(env, pid, dry_run=dry_run, expected=expected) for what, dry_run in (("look", True), ("sweep", False))}
        _fill(cloud, asked)
        with _emulator(cloud) as (env, pid):
            for words in (["reap", "--stack", "runpod", "--dry-run"], ["reap", "--stack", "runpod"]):
                seconds[f"invoke {' '.join(words)}"] = _command(words, {**env, "TRAINYARD_HOME": str(home)}, pid)
    print(machine())
    slow = [what for what, took in seconds.items() if took > SWEEP_S]
    print(f"promised: {SWEEP_S:.0f} s" + (f"; slower: {', '.join(slow)}" if slow else "; kept"))
    return 1 if slow else 0


def _swept(env: Mapping[str, str], emulator: int, *, dry_run: bool, expected: Mapping[str, int]) -> float:
    began, cpu, theirs = time.perf_counter(), time.process_time(), _cpu(emulator)
    sightings = reap(RunPodCloud.from_env(env), dry_run=dry_run)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    seen = Counter(sighting.verdict for sighting in sightings)
    ended = sum(sighting.ended is True for sighting in sightings)
    if seen != Counter(expected) or ended != (0 if dry_run else expected.get("over", 0)):
        sys.exit(f"judged wrongly: {dict(seen)}, {ended} ended")
    what = "a look" if dry_run else f"{ended} ended"
    print(f"the reaper's function, {what}: {took:.2f} s, {cpu:.2f} s of CPU, {_cpu(emulator) - theirs:.2f} more the emulator's")
    return took


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _command(words: Sequence[str], env: Mapping[str, str], emulator: int) -> float:
    theirs = _cpu(emulator)
    usage = measure([str(Path(sys.executable).with_name("invoke")), *words], {**os.environ, **env}, find_root())
    cpu = f"{usage.cpu:.2f} s of CPU, {_cpu(emulator) - theirs:.2f} more the emulator's"
    print(f"invoke {' '.join(words)}: {usage.seconds:.2f} s, {cpu}, {usage.peak:.0f} MiB")
    return usage.seconds


@contextlib.contextmanager
def _emulator(root: Path) -> Iterator[tuple[dict[str, str], int]]:
    """Yield the variables that lead a client to an emulator with the pods of a folder, and its process."""
    words = [sys.executable, "-m", "trainyard.rehearsal", "runpod", "--root", str(root), "--minute", str(_LIMIT)]
    with subprocess.Popen(words, cwd=find_root(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        exports = (process.stdout.readline().removeprefix("export ").rstrip("\n").partition("=") for _ in range(5))
        env = {name: value for name, _, value in exports}
        try:
            for look in ("first", "second"):
                print(f"the emulator's {look} list alone: {_list(env)}")
            yield env, process.pid
        finally:
            process.terminate()


def _list(env: Mapping[str, str]) -> str:
    """Return how long the emulator takes for its list: the first time it checks each pod against RunPod's specification."""
    began = time.perf_counter()
    answer = httpx.get(f"{env['RUNPOD_API_URL']}/pods", headers={"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"}, timeout=300)
    return f"{time.perf_counter() - began:.2f} s, {len(answer.content):,} bytes"


def _fill(root: Path, asked: argparse.Namespace) -> dict[str, int]:
    """Write the records of an account's pods; return how many the reaper has to judge how."""
    (root / "pods").mkdir(parents=True, exist_ok=True)
    verdicts: Counter[str] = Counter()
    for number in range(asked.pods):
        verdict: Verdict = "over" if number < asked.over else _OTHERS.get(number % 100, "leased")
        (root / "pods" / f"bench{number:09d}.json").write_text(json.dumps(_record(number, verdict, "x" * asked.args)), encoding="utf-8")
        verdicts[verdict] += 1
    return dict(verdicts)


def _record(number: int, verdict: Verdict, args: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    end = now + timedelta(hours=-1 if verdict == "over" else 2)
    lease = f"{number:010x}"
    env = {} if verdict == "foreign" else marker_env("f" * 10, lease, end - timedelta(minutes=15), end)
    if verdict == "unreadable":
        env["TRAINYARD_END"] = "soon"
    name = f"somebody-{number}" if verdict == "foreign" else str(PodName("f" * 10, lease, "trainer", "0" * 8))
    request = {
        "name": name, "image": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404", "args": args, "disk": 50, "ports": ["22/tcp"],
        "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 1}, "env": {**env, **{f"SETTING_{one}": "x" * 40 for one in range(10)}},
    }  # fmt: skip
    return {
        "id": f"bench{number:09d}", "name": name, "request": request, "status": "RUNNING", "price": 0.69, "place": "EU-RO-1",
        "image": request["image"], "gpu": True, "disk_price": 0.0, "spot": False, "created": now.timestamp() - 7200,
        "started": now.timestamp() - 7100, "due": _NEVER, "key": f"pod-{number}", "port": 20_000 + number, "stale_port": None,
        "stale_until": 0.0, "user": "root", "ports_at": 0.0, "restarts": 0, "boot": {}, "system": [], "lost": [],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
