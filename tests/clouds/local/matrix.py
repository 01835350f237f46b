"""The full run of what the suite samples: ``python -m tests.clouds.local.matrix [--rounds N] [--isolation R] [--way W]``.

Each round makes a hostile pod and ends it in one of the ways a pod can end, or kills a caller at a random instant.
Prints the count of rounds and of survivors, and the times of what can be timed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.clouds.local import pods
from tests.clouds.local.test_containment import holders
from tests.clouds.local.test_crashes import crash_round
from trainyard.clouds.local import LocalCloud


def by_terminate(cloud: LocalCloud, token: str, source: random.Random) -> float:
    """End a tortured pod from outside."""
    pod = pods.tortured(cloud, token)
    time.sleep(source.uniform(0, 0.2))
    began = time.perf_counter()
    cloud.terminate(pod.id)
    return time.perf_counter() - began


def by_deadline(cloud: LocalCloud, token: str, source: random.Random) -> float:
    """Let its end come; the time is how late the last process died."""
    pod, end = pods.tortured(cloud, token), datetime.now(UTC) + timedelta(seconds=source.uniform(0.05, 0.5))
    cloud.change_markers(pod.id, None, end)
    pods.wait_for(lambda: not pods.living(token), "the deadline", 20)
    return max(0.0, time.time() - end.timestamp())


def by_itself(cloud: LocalCloud, token: str, source: random.Random) -> float:
    """Let the pod ask for its end."""
    pod = pods.tortured(cloud, token)
    with pods.ssh(pod) as client:
        began = time.perf_counter()
        said = pods.say(client, "end of the matrix")
    try:
        pods.wait_for(lambda: not pods.living(token), "the end", 10)
    except AssertionError as error:
        raise AssertionError(f"{error}; the pod was told {said}; {_state(cloud, token)}") from None
    return time.perf_counter() - began


def _state(cloud: LocalCloud, token: str) -> str:
    """Say all that can be seen of a pod that did not end: where its supervisor is and what still lives."""
    folder, pids = cloud.root / "pods" / pods.NAME, holders(cloud)
    supervisor = Path(f"/proc/{pids['alive']}")
    facts = {name: _look(supervisor / name) for name in ("stat", "wchan", "syscall")} if pids["alive"] > 0 else {}
    alive = {pid: _look(Path(f"/proc/{pid}/stat")) for pid in pods.living(token)}
    return f"locks {pids}, folder {folder.exists()}, supervisor {facts}, alive {alive}, log {_look(folder / 'supervisor.log')!r}"


def _look(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError as error:
        return f"<{error.strerror}>"


def by_killing(*locks: str) -> Callable[[LocalCloud, str, random.Random], float]:
    """Kill the supervisor, the subreaper or both; whoever lists does the rest."""

    def way(cloud: LocalCloud, token: str, source: random.Random) -> float:
        pods.tortured(cloud, token)
        pids = holders(cloud)
        began = time.perf_counter()
        for lock in locks:
            os.kill(pids[lock], signal.SIGKILL)
        pods.wait_for(lambda: cloud.list() == [], "the list", 20)
        return time.perf_counter() - began

    return way


def calm(cloud: LocalCloud, token: str, source: random.Random) -> float:
    """Make a pod and wait for its banner; the time is from the call to the banner."""
    began = time.perf_counter()
    pods.answers(pods.create(cloud, pods.spec()))
    took = time.perf_counter() - began
    cloud.terminate(pods.NAME)
    return took


WAYS: dict[str, dict[str, Callable[[LocalCloud, str, random.Random], float]]] = {
    "namespace": {"supervisor killed": by_killing("alive")},
    "process": {
        "supervisor killed": by_killing("alive"),
        "subreaper killed": by_killing("subreaper"),
        "both killed": by_killing("alive", "subreaper"),
    },
}
BOTH = {"create to banner": calm, "terminate": by_terminate, "deadline": by_deadline, "self-end": by_itself}


def run_isolation(isolation: str, rounds: int, source: random.Random, folder: Path, only: list[str]) -> int:
    """Run every way on one isolation level; return the number of survivors and leftovers."""
    os.environ["TRAINYARD_LOCAL_ISOLATION"] = isolation
    cloud, bad = LocalCloud(folder / isolation), 0
    for title, way in {title: way for title, way in {**BOTH, **WAYS[isolation]}.items() if not only or title in only}.items():
        times, failed = [], 0
        for _ in range(rounds):
            token = f"torture-{os.urandom(6).hex()}"
            times.append(1000 * way(cloud, token, source))
            survivors = pods.living(token)
            pods.wait_for(lambda: cloud.list() == [] and pods.leftovers(cloud) == [], "the files to go", 20)
            failed += bool(survivors)
        bad += failed
        figures = f"p50 {statistics.median(times):5.0f} max {max(times):5.0f} ms"
        print(f"{isolation:9} | {title:17} | {rounds:4} rounds | {failed} with survivors | {figures}", flush=True)
    return bad if only else bad + crashes(cloud, isolation, rounds, source)


def crashes(cloud: LocalCloud, isolation: str, rounds: int, source: random.Random) -> int:
    """Kill creators and terminators at random instants."""
    process = pods.Crashable(cloud.root)
    try:
        for number in range(rounds):
            crash_round(cloud, process, source, f"round-{number}")
    finally:
        process.close()
    left = pods.living(str(cloud.root))
    print(f"{isolation:9} | callers killed -9 | {rounds:4} rounds | {len(left)} orphans")
    return len(left)


def main() -> int:
    """Run what this machine can."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--isolation", choices=sorted(WAYS), action="append")
    parser.add_argument("--way", choices=sorted({**BOTH, **WAYS["process"]}), action="append", default=[])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    options = parser.parse_args()
    print(f"seed {options.seed}, user {os.getuid()}")
    bad = 0
    with tempfile.TemporaryDirectory(prefix="tylc") as folder:
        for isolation in options.isolation or sorted(WAYS):
            why = pods.refused(isolation)
            if why:
                print(f"{isolation:9} | NOT tested, refused here: {why}")
                continue
            bad += run_isolation(isolation, options.rounds, random.Random(options.seed), Path(folder), options.way)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
