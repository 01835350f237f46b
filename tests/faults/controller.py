"""``python -m tests.faults.controller [--cases N] [--seed S]``: the controller is killed on the ``local`` stack, real bucket and all.

At each boundary of a run's phases and at random instants; then ``attach`` or ``recover`` finishes the story (the model is
in the bucket, no pod is left), or ``destroy`` alone leaves nothing running.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.yard import Yard
from tests.faults import processes

BOUNDARIES = ("prepared", "up", "started", "trained", "committed")
FOLLOWING = ("attach", "recover", "destroy")
LONGEST = 7.0
"""Seconds within which a random instant lies; a run that is over by then was not killed, and is judged all the same."""


@dataclass(frozen=True)
class Kill:
    """One case: where, who, and what comes then."""

    point: str
    whole_tree: bool
    following: str

    def __str__(self) -> str:
        return f"{self.point} / {'controller and all below' if self.whole_tree else 'controller'} / {self.following}"


def cases(seed: int, random_ones: int) -> list[Kill]:
    """Return every boundary with every sequel, and some random instants."""
    chance = random.Random(seed)
    fixed = [Kill(point, bool(i % 2), then) for i, (point, then) in enumerate(itertools.product(BOUNDARIES, FOLLOWING))]
    return fixed + [
        Kill(f"{chance.uniform(0.0, LONGEST):.2f}", chance.random() < 0.5, chance.choice(FOLLOWING)) for _ in range(random_ones)
    ]


def try_one(yard: Yard, label: str, case: Kill) -> list[str]:
    """Run a training, kill, go on; return what is wrong."""
    child = yard.start(*yard.train("--name", label, steps=8, pause=0.1))
    at = time.monotonic() + float(case.point) if case.point not in BOUNDARIES else None
    while child.poll() is None:
        if (at is None and yard.record(label).get("phase") == case.point) or (at is not None and time.monotonic() >= at):
            break
        time.sleep(0.005)
    below = processes.tree(child.pid)
    processes.kill(below if case.whole_tree else below[:1])
    child.communicate(timeout=60)
    known = bool(yard.record(label))
    problems = _finish(yard, label, case.following, known)
    return problems + [f"pod left: {pod}" for pod in yard.pods()]


def _finish(yard: Yard, label: str, following: str, known: bool) -> list[str]:
    if following == "destroy" or not known:
        done = yard.invoke("destroy", "--stack", "local", "--yes")
        return [] if done.code == 0 else [f"destroy exited {done.code}: {done.out}{done.err}"]
    done = yard.invoke(*(("attach", label) if following == "attach" else ("recover",)))
    problems = [] if done.code == 0 else [f"{following} exited {done.code}: {done.out}{done.err}"]
    if yard.record(label).get("phase") != "ended":
        problems.append(f"the run is {yard.record(label).get('phase')} after {following}")
    got = yard.base / f"got-{label}"
    fetched = yard.invoke("download", label, str(got))
    if fetched.code or (got / "model.txt").read_text() != "steps 8\n":
        problems.append(f"the model is not in the bucket: {fetched.out}{fetched.err}")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.controller", description=__doc__)
    parser.add_argument("--cases", type=int, default=20, help="random instants beside the boundaries")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    chosen = cases(seed, given.cases)
    print(f"seed {seed}, {len(chosen)} kills", flush=True)
    yard = Yard(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")))
    failed = 0
    try:
        for number, case in enumerate(chosen):
            began = time.monotonic()
            problems = try_one(yard, f"r{number}", case)
            failed += bool(problems)
            word = "FAILED" if problems else "ok"
            print(f"{number:4} {word:7} {time.monotonic() - began:6.1f} s  {case}", *problems, sep="\n       ", flush=True)
    finally:
        yard.close()
        shutil.rmtree(yard.base, ignore_errors=True)
    print(f"{len(chosen)} kills of the controller, {failed} failed, seed {seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
