"""``python -m tests.faults.controller [--cases N] [--seed S] [--workers W]``: a controller in trouble, at every crossing of a run.

Each case trains on a real local pod with a controller in which one call fails (crossings.py): what it raises, or a signal,
or a disk that stays broken. From "started" on the pod must live unless its result is safe, and what is printed must name it;
the next command, in a process without trouble, must finish with the very bytes the training wrote.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.yard import ROOT, Done, Yard
from tests.faults.crossings import TROUBLES
from trainyard.storage.manifest import MANIFEST

ROADS = ("bucket", "home")
PHASES = ("prepared", "up", "started", "trained", "committed", "ended")
BEGUN = PHASES[2:]
LONGEST = 150.0
HUNG = -1000  # -1 is that of a SIGHUP when all is done
LEFT = (0, 6, 11, 74, -9)
"""How a controller may end that leaves a run as it is (or has not felt the trouble)."""
JOB = Path(__file__).parent / "jobs" / "result.sh"
RESULT = {
    "model/weights.bin": "".join(f"{n}\n" for n in range(1, 40001)).encode(),
    "model/deep/er/words.txt": b"caf\xc3\xa9\n",
    "model/empty": b"",
}
LOG = b"".join(b"line %d\n" % n for n in range(1, 6)) + b"done\n"


@dataclass(frozen=True, order=True)
class Case:
    """One trouble at one crossing, and the command that comes next."""

    road: str
    phase: str
    name: str
    when: str
    nth: int
    trouble: str
    next: str

    def __str__(self) -> str:
        return "/".join((self.road, self.phase, self.name, self.when, str(self.nth), self.trouble, self.next))


def parse(text: str) -> Case:
    """Read what str() of a case gives."""
    road, phase, name, when, nth, trouble, following = text.split("/")
    return Case(road, phase, name, when, int(nth), trouble, following)


@dataclass
class Outcome:
    """What came of a case."""

    case: Case
    met: bool
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Zygote:
    """A process from which controllers are forked, one at a time."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        argv = [sys.executable, "-m", "tests.faults.crossings"]
        self.process = subprocess.Popen(argv, cwd=ROOT, env=yard.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._count = 0

    def run(self, *words: str, plan: dict[str, object] | None = None, seconds: float = LONGEST) -> Done:
        """Run a verb in a fork; HUNG is the code of one that had to be killed because it hung."""
        self._count += 1
        out = self.yard.base / f"out{self._count}.txt"
        order = {"argv": words, "cwd": str(self.yard.root), "env": self.yard.env, "out": str(out), "plan": plan or {}}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        pid = json.loads(self.process.stdout.readline())["pid"]
        late = threading.Timer(seconds, _end, (pid, hung := threading.Event()))
        late.start()
        code = json.loads(self.process.stdout.readline())["code"]
        late.cancel()
        text = out.read_text(errors="replace")
        return Done(HUNG if hung.is_set() else code, text, text)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def _end(pid: int, hung: threading.Event) -> None:
    hung.set()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)  # it says where it hangs
        time.sleep(1)
        os.kill(pid, signal.SIGKILL)


class Bench:
    """One yard whose runs are tried one after the other."""

    def __init__(self) -> None:
        self.yard = Yard(Path(tempfile.mkdtemp(prefix="tx", dir="/tmp")))
        self.zygote = Zygote(self.yard)
        self._count = 0
        (self.yard.base / "job.sh").write_text(JOB.read_text())
        self._stack("bucket", {})
        self._stack("home", {"bucket": "none"})

    def _stack(self, name: str, more: dict[str, str]) -> None:
        lines = [f"  trainyard:{key}: {value}\n" for key, value in {"cloud": "local", **more}.items()]
        (self.yard.root / f"Pulumi.{name}.yaml").write_text("config:\n" + "".join(lines))

    def train(self, road: str, label: str, plan: dict[str, object]) -> Done:
        """Train under a plan."""
        script = f"script={self.yard.base / 'job.sh'}"
        return self.zygote.run("train", "--stack", road, "--recipe", "command", "--set", script, "--name", label, plan=plan)

    def census(self, road: str) -> list[tuple[str, str, str, int]]:
        """Return every crossing of an undisturbed run: phase, name, when, how often."""
        path = self.yard.base / f"census-{road}.json"
        self.train(road, f"census-{road}", {"census": str(path)}).expect()
        return [tuple(row) for row in json.loads(path.read_text())]

    def run(self, case: Case) -> Outcome:
        """Try one case and judge it."""
        self._count += 1
        began, label = time.monotonic(), f"r{self._count}"
        mark = self.yard.base / f"{label}.met"
        plan = {"phase": case.phase, "name": case.name, "when": case.when, "nth": case.nth, "trouble": case.trouble, "census": str(mark)}
        done = self.train(case.road, label, plan)
        found = Outcome(case, mark.is_file(), story=[f"$ train -> {done.code}", done.out])
        record = self.yard.record(label)
        if done.code == HUNG:
            found.problems.append(f"hung for {LONGEST:.0f} s")
        if case.phase in BEGUN:
            found.problems += self._left_as_it_is(case, label, done)
        if record:
            for _ in range(2 if case.phase not in BEGUN else 1):
                found.story += self._next(found, case, label)
        found.problems += [f"pod left: {pod}" for pod in self.yard.pods()]
        self._clear()
        found.seconds = time.monotonic() - began
        return found

    def _left_as_it_is(self, case: Case, label: str, done: Done) -> list[str]:
        pods, bad = self.yard.pods(), []
        if not pods and (wrong := self.result(case.road, label)):
            return [f"THE POD IS GONE (exit {done.code}) and its result is not safe: {wrong}"]
        if "Traceback (most recent" in done.out and "Exception in thread" not in done.out:
            bad.append("a traceback on the screen")
        if pods and done.code not in LEFT[1:]:
            bad.append(f"exit {done.code} with a pod left")
        if pods and done.code != -9 and not (pods[0] in done.out and re.search(f"invoke attach tester/{label}|invoke recover", done.out)):
            bad.append("what is left, or the next command, is not told")
        return bad

    def _next(self, found: Outcome, case: Case, label: str) -> list[str]:
        before = self.yard.record(label).get("phase")
        done = self.zygote.run(*(("attach", label) if case.next == "attach" else ("recover",)))
        phase = self.yard.record(label).get("phase")
        if phase != "ended":
            found.problems.append(f"{case.next} exited {done.code} and the run is {phase}")
        if case.phase in BEGUN:
            if done.code:
                found.problems.append(f"{case.next} exited {done.code}")
            found.problems += self.result(case.road, label)
            # What has ended is recover's no more; that not all of it could be written at home was said.
            if case.next == "attach" or before != "ended":
                found.problems += self._told(label)
        return [f"$ {case.next} -> {done.code}", done.out]

    def result(self, road: str, label: str) -> list[str]:
        """Return what is wrong with a result where it should be safe."""
        if road == "home":
            base = self.yard.root / "out" / "tester" / label
            marker = base / MANIFEST
        else:
            found = [path for path in (self.yard.base / "o" / "store").glob(f"**/tester/{label}/1/_SUCCESS")]
            base = found[0].parent if found else self.yard.base / "nowhere"
            marker = base / "_SUCCESS"
        if not marker.is_file():
            return [f"there is no {marker.name}"]
        wrong = [name for name, body in RESULT.items() if not (base / name).is_file() or _sha(base / name) != hashlib.sha256(body).digest()]
        return [f"{name} is not what the training wrote" for name in wrong]

    def _told(self, label: str) -> list[str]:
        home = self.yard.root / "out" / "tester" / label
        log = (home / "train.log").read_bytes() if (home / "train.log").is_file() else b""
        summary = json.loads((home / "run-summary.json").read_text()) if (home / "run-summary.json").is_file() else {}
        whole = LOG in log and log.count(b"line 1\n") == 1 and log.startswith(b"run: 1. ") and log.endswith(b"run: 6. done\n")
        bad = [] if whole else [f"train.log at home is {log!r}"]
        return bad + ([] if summary.get("success") is True else [f"the summary says success={summary.get('success')}"])

    def _clear(self) -> None:
        for pod in self.yard.cloud.list():
            self.yard.cloud.terminate(pod.id)
        shutil.rmtree(self.yard.home / "runs" / "tester", ignore_errors=True)

    def close(self) -> None:
        """End everything."""
        self.zygote.close()
        self.yard.close()
        shutil.rmtree(self.yard.base, ignore_errors=True)


def _sha(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def draw(seed: int, censuses: dict[str, list[tuple[str, str, str, int]]], phases: Iterable[str] = PHASES) -> list[Case]:
    """Return one case for each crossing of each road, in random order; what comes there is drawn."""
    chance = random.Random(seed)
    wanted = set(phases)
    rows = [(road, *row) for road in sorted(censuses) for row in censuses[road] if row[0] in wanted]
    chance.shuffle(rows)
    return [
        Case(road, phase, name, when, chance.choice((1, count, chance.randint(1, count))), chance.choice(TROUBLES),
             chance.choice(("attach", "recover")))
        for road, phase, name, when, count in rows
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all, or as many as asked for; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.controller", description=__doc__)
    parser.add_argument("--cases", type=int, default=None, help="as many of them (default: every crossing once)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--case", default=None, help="one case, as it was printed")
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--only", default="", help="crossings whose case holds this text")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    benches = [Bench() for _ in range(1 if given.case else given.workers)]
    try:
        if given.case:
            chosen = [parse(given.case)]
        else:
            chosen = draw(seed, {road: benches[0].census(road) for road in ROADS}, given.phases.split(","))
            chosen = [case for case in chosen if given.only in str(case)][: given.cases]
        print(f"seed {seed}, {len(chosen)} cases", flush=True)
        results = _all(benches, chosen, verbose=given.case is not None)
    finally:
        for bench in benches:
            bench.close()
    failed = [result for result in results if result.problems]
    print(f"{len(results)} cases, {sum(not r.met for r in results)} without the trouble, {len(failed)} failed, seed {seed}")
    for title in ("trouble", "phase", "road"):
        run, bad = (Counter(str(getattr(r.case, title)) for r in some) for some in (results, failed))
        print(f"  {title}: " + ", ".join(f"{name} {run[name]}" + (f" ({bad[name]} failed)" if bad[name] else "") for name in sorted(run)))
    return 1 if failed else 0


def _all(benches: Sequence[Bench], chosen: Sequence[Case], *, verbose: bool) -> list[Outcome]:
    queue: Iterator[tuple[int, Case]] = iter(enumerate(chosen))
    lock, results = threading.Lock(), list[Outcome]()

    def work(bench: Bench) -> None:
        nonlocal queue
        while True:
            with lock:
                number, case = next(queue, (0, None))
            if case is None:
                return
            result = bench.run(case)
            word = "FAILED" if result.problems else "ok" if result.met else "unmet"
            told = result.problems + (result.story if result.problems or verbose else [])
            with lock:
                results.append(result)
                print(f"{number:4} {word:7} {result.seconds:5.1f} s  {case}", *told, sep="\n       ", flush=True)

    with ThreadPoolExecutor(len(benches)) as pool:
        try:
            list(pool.map(work, benches))
        finally:
            queue = iter(())  # who leaves by Ctrl-C waits for the cases at work only
    return results


if __name__ == "__main__":
    sys.exit(main())
