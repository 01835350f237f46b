"""The full matrices: ``python -m tests.engine.matrix [cases|pairs|refusals|crash|takeover|all] [--engine-only] [-k WORDS]``.

Prints one line a case and the counts; exits 1 when one differs. The suite runs a part of the same tables. What
cases have in common is run once a process (each pair begins with the same two operations as eleven others).
"""

from __future__ import annotations

import argparse
import atexit
import difflib
import json
import multiprocessing.util
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.engine import crash
from tests.engine.bench import Bench, Ended, cli_found, mask, misplaced, new_bench
from tests.engine.cases import CASES, REFUSALS, Case, Refusal, Step, pairs
from tests.engine.takeover import check_takeover, takeovers


@dataclass(frozen=True)
class _Stage:
    """Where a case is after some steps, on each engine, and what was wrong until then."""

    engine: Bench
    peer: Bench | None
    problems: list[str]

    def copy(self) -> _Stage:
        return _Stage(self.engine.copy(), self.peer.copy() if self.peer else None, list(self.problems))

    def remove(self) -> None:
        for bench in (self.engine, self.peer):
            if bench is not None:
                shutil.rmtree(bench.root, ignore_errors=True)


_STAGES: dict[str, _Stage] = {}


def check_case(case: Case, *, with_cli: bool, shared: int = 0) -> list[str]:
    """Run a case; return what is wrong. Its first ``shared`` steps are kept for the cases that begin with them too."""
    stage, done = _begin(case, with_cli, shared)
    engine, problems = stage.engine, stage.problems
    try:
        for number, step in enumerate(case.steps[done:], start=done):
            _one_step(stage, f"step {number} ({step.verb})", step)
            if number < shared:
                _STAGES[repr((with_cli, case.steps[: number + 1]))] = kept = stage.copy()
                atexit.register(kept.remove)
        if case.left is not None and len(engine.things()) != case.left:
            problems.append(f"left in the cloud: {engine.things()}")
        if case.steps[-1].verb == "destroy" and case.steps[-1].code == 0 and engine.latest().get("resources"):
            problems.append(f"left in state: {engine.names()}")
    finally:
        if not problems:
            stage.remove()
    return problems


def _begin(case: Case, with_cli: bool, shared: int) -> tuple[_Stage, int]:
    """Return where to begin a case, and how many of its steps are done there."""
    for done in range(shared, 0, -1):
        kept = _STAGES.get(repr((with_cli, case.steps[:done])))
        if kept is not None:
            return kept.copy(), done
    return _Stage(new_bench(), new_bench() if with_cli else None, []), 0


def _one_step(stage: _Stage, where: str, step: Step) -> None:
    mine = _run(stage.engine, step, stage.engine.engine)
    stage.problems.extend(_check_code(where, step, mine))
    stage.problems.extend(f"{where}: {text}" for text in misplaced(stage.engine.latest()))
    if stage.peer is None:
        stage.engine.calls()
        return
    theirs = _run(stage.peer, step, stage.peer.cli)
    stage.problems.extend(_compare(where, step, (stage.engine, mine), (stage.peer, theirs)))


def check_refusal(refusal: Refusal) -> list[str]:
    """Run a program that must be refused: by name, with its line, before anything exists."""
    bench = new_bench()
    if refusal.project:
        (bench.root / "Pulumi.yaml").write_text(refusal.project)
    bench.settings(refusal.settings)
    ended = bench.engine("up", spec=refusal.spec)
    problems = []
    if ended.code == 0:
        problems.append("it was not refused")
    if refusal.words not in ended.text:
        problems.append(f"'{refusal.words}' is not said: {ended.text[-800:]}")
    if refusal.line and "__main__.py:" not in ended.text:
        problems.append(f"no source line: {ended.text[-800:]}")
    if bench.things() or bench.calls():
        problems.append(f"something was created: {bench.things()}")
    shutil.rmtree(bench.root, ignore_errors=True)
    return problems


def _run(bench: Bench, step: Step, run: Callable[..., Ended]) -> Ended:
    bench.faults(*step.faults)
    if step.settings is not None:
        bench.settings(step.settings)
    verb, *words = step.verb.split()
    return run(verb, *words, spec=step.spec, interrupt=step.interrupt)


def _check_code(where: str, step: Step, ended: Ended) -> list[str]:
    if step.code >= 0 and (ended.code != 0) != (step.code != 0):
        return [f"{where}: exit code {ended.code}: {ended.errors() or ended.text[-1500:]}"]
    return [f"{where}: exit code {ended.code}: {ended.text[-1500:]}"] if ended.code not in (0, 1) else []


def _compare(where: str, step: Step, mine: tuple[Bench, Ended], theirs: tuple[Bench, Ended]) -> list[str]:
    (engine, one), (peer, two) = mine, theirs
    problems = []
    if (one.code != 0) != (two.code != 0) and not step.code_differs:
        problems.append(f"{where}: exit codes {one.code} and {two.code} (CLI)\n{one.text[-900:]}\n{two.text[-900:]}")
    calls = [sorted(map(mask, bench.calls())) for bench in (engine, peer)]
    if calls[0] != calls[1] and not step.calls_differ:
        problems.append(f"{where}: calls {_only(calls[0], calls[1])} and {_only(calls[1], calls[0])} (CLI)")
    states = [json.dumps(bench.normal(), indent=1, sort_keys=True).splitlines() for bench in (engine, peer)]
    if states[0] != states[1] and not step.state_differs:
        diff = difflib.unified_diff(states[0], states[1], "engine", "cli", lineterm="", n=2)
        problems.append(f"{where}: state differs\n" + "\n".join(list(diff)[:60]))
    return problems


def _only(one: list[str], other: list[str]) -> list[str]:
    return sorted((Counter(one) - Counter(other)).elements())


Job = Callable[[], dict[str, list[str]]]


def _jobs(wanted: set[str], with_cli: bool, words: str) -> Iterator[Job]:
    """Yield what is to be run; each returns what is wrong by the name of the case."""
    if "cases" in wanted:
        yield from (partial(_named, case.name, check_case, case, with_cli=with_cli) for case in CASES if words in case.name)
    if "pairs" in wanted:
        yield from (partial(_named, case.name, check_case, case, with_cli=with_cli, shared=2) for case in pairs() if words in case.name)
    if "refusals" in wanted:
        yield from (partial(_named, f"refused: {r.name}", check_refusal, r) for r in REFUSALS if words in f"refused: {r.name}")
    for operation in crash.OPERATIONS if "crash" in wanted else []:
        found = crash.points(operation)
        print(f"     {operation}: {len(found)} crash points", flush=True)
        follows = ["destroy", "up", *(["cli"] if with_cli else [])]
        yield from (partial(_crash, point, follows) for point in found if words in f"crash: {point}")
    for item in takeovers() if "takeover" in wanted and with_cli else []:
        if words in f"takeover: {item.name}":
            yield partial(_named, f"takeover: {item.name}", check_takeover, item)


def _named(name: str, check: Callable[..., list[str]], *args: Any, **kwargs: Any) -> dict[str, list[str]]:
    return {name: check(*args, **kwargs)}


def _crash(point: crash.Point, follows: list[str]) -> dict[str, list[str]]:
    return {f"crash: {point}, then {follow}": problems for follow, problems in crash.check(point, follows).items()}


def _timed(job: Job) -> tuple[float, dict[str, list[str]]]:
    begin = time.monotonic()
    found = job()
    return time.monotonic() - begin, found


def _work_in(folder: str) -> None:
    tempfile.tempdir = folder


def main() -> int:
    """Run the matrices asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["all"])
    parser.add_argument("--engine-only", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-k", default="")
    given = parser.parse_args()
    with_cli = cli_found() is not None and not given.engine_only
    wanted = {"cases", "pairs", "refusals", "crash", "takeover"} if "all" in given.what else set(given.what)
    if not with_cli:
        print("NOTE: no pulumi CLI on PATH (or --engine-only): the built-in engine runs alone, nothing is compared")
    bad = count = 0
    multiprocessing.util.get_temp_dir()  # its own folder stands beside ours: it is removed later
    _work_in(folder := tempfile.mkdtemp(prefix="ty-matrix-"))
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(given.workers, mp_context=context, initializer=_work_in, initargs=(folder,)) as pool:
        running = [pool.submit(_timed, job) for job in _jobs(wanted, with_cli, given.k)]
        for future in as_completed(running):
            seconds, found = future.result()
            for name, problems in found.items():
                count += 1
                bad += bool(problems)
                print(f"{'FAIL' if problems else 'ok':4} {seconds / len(found):5.1f} s  {name}", flush=True)
                for problem in problems:
                    print("      " + problem.replace("\n", "\n      "))
    print(f"what the bad ones left is in {folder}") if bad else shutil.rmtree(folder, ignore_errors=True)
    print(f"{count} cases, {bad} bad; compared with the CLI: {'yes' if with_cli else 'no'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
