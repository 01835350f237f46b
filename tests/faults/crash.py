"""``python -m tests.faults.crash [--stack CLOUD] [--cases N] [--seed S] [--engine E] [--case TEXT]``: the crash matrix of G1.

Each case kills the engine, the provider, the controller or all of them at a named point or a random instant of an
operation on the rehearsal's cloud, then does what a user would do next (often: nothing). The judge is the emulator.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.faults.bench import Bench, Result
from tests.faults.cases import Case, draw, left_out, parse
from tests.faults.sidebyside import side_by_side
from tests.faults.world import STACK, world
from trainyard.rehearsal.emulators import emulators
from trainyard.stacks import installed

FULL = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash", description=__doc__)
    parser.add_argument("--stack", choices=emulators(), default=STACK, help="the cloud: any that has an emulator")
    parser.add_argument("--cases", type=int, default=FULL)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--engine", choices=("builtin", "cli"), default=None)
    parser.add_argument("--case", action="append", default=[], help="one case, as a failing one prints it (may be repeated)")
    parser.add_argument("--workers", type=int, default=2, help="worlds side by side")
    parser.add_argument("--minutes", type=float, default=None, help="begin no case after that long")
    given = parser.parse_args(arguments)
    engines = [given.engine] if given.engine else engines_here()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    chosen = [parse(text) for text in given.case] or [draw(seed, number, engines, given.stack) for number in range(given.cases)]
    print(f"{given.stack}, seed {seed}, engines {', '.join(engines)}, {len(chosen)} cases", flush=True)
    if without := left_out(given.stack):
        print(without, flush=True)
    results = run(
        given.stack, chosen, workers=min(given.workers, len(chosen)), minutes=given.minutes, say=lambda text: print(text, flush=True)
    )
    print(table(results, seed, len(chosen)))
    unfinished = given.minutes is None and len(results) < len(chosen)
    return 1 if unfinished or any(result.problems for result in results) else 0


def engines_here() -> list[str]:
    """Return the built-in engine, and the Pulumi CLI where it and its plugin are found (said aloud where not)."""
    if installed.find(os.environ) is not None and installed.has_command_plugin(os.environ):
        return ["builtin", "cli"]
    print("NO PULUMI CLI with the command plugin here: the built-in engine alone is tried", flush=True)
    return ["builtin"]


def run(stack: str, cases: Sequence[Case], *, workers: int, minutes: float | None, say: Callable[[str], None]) -> list[Result]:
    """Run cases in some worlds side by side; say each one's verdict."""
    waiting: queue.SimpleQueue[tuple[int, Case]] = queue.SimpleQueue()
    for item in enumerate(cases):
        waiting.put(item)
    until = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    over = threading.Event()
    results: list[Result] = []

    def work() -> None:
        with world(stack) as mine:
            bench = Bench(mine)
            bench.calibrate()
            say(f"a world is up; an up with a pod takes {bench.pace.of('up', 'builtin'):.1f} s here")
            while time.monotonic() < until and not over.is_set():
                try:
                    number, case = waiting.get_nowait()
                except queue.Empty:
                    return
                result = bench.run(case)
                results.append(result)
                say(verdict(number, result, stack))

    side_by_side(work, workers, over)
    return results


def verdict(number: int, result: Result, stack: str) -> str:
    """Return what is said of one case."""
    word = "FAILED" if result.problems else "ok" if result.crashed else "ok (over before the point)"
    text = "; ".join([f"{number:4} {word:7} {result.seconds:6.1f} s  {result.case}", *result.notes])
    if not result.problems:
        return text
    told = "".join(f"\n       {problem}" for problem in result.problems)
    story = "\n".join(f"       | {line}" for part in result.story for line in part.splitlines()[-25:])
    return f"{text}{told}\n       again: python -m tests.faults.crash --stack {stack} --case {result.case}\n{story}"


def table(results: Sequence[Result], seed: int, planned: int) -> str:
    """Return the counts by operation, engine, victim, point and what the user does next."""
    lines = [f"\n{len(results)} of {planned} cases run, seed {seed}"]
    for title in ("operation", "engine", "victim", "point", "next"):
        run_, bad, missed = Counter[str](), Counter[str](), Counter[str]()
        for result in results:
            name = f"{result.case.next} {result.case.situation}".strip() if title == "next" else str(getattr(result.case, title))
            run_[name] += 1
            bad[name] += bool(result.problems)
            missed[name] += not result.crashed
        for name in sorted(run_):
            lines.append(f"  {title:<10} {name:<18} {run_[name]:4} run, {missed[name]:3} over before the kill, {bad[name]:3} failed")
    notes = Counter(note for result in results for note in result.notes)
    lines += [f"  note: {note}: {count} cases" for note, count in notes.items()]
    lines.append(f"a pod was ended by the scheduled reaper because no watchdog could: {sum(bool(r.reaped) for r in results)} cases")
    lines.append(f"failed: {sum(bool(r.problems) for r in results)}; killed nothing: {sum(not r.crashed for r in results)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
