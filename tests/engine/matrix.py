"""The full matrices: ``python -m tests.engine.matrix [cases|pairs|refusals|crash|takeover|all] [--engine-only] [-k WORDS]``.

Prints one line a case and the counts; exits 1 when one differs. The suite runs a part of the same tables.
"""

from __future__ import annotations

import argparse
import difflib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from tests.engine import crash
from tests.engine.bench import Bench, Ended, cli_found, mask, new_bench
from tests.engine.cases import CASES, REFUSALS, Case, Refusal, Step, pairs
from tests.engine.takeover import check_takeover, takeovers


def check_case(case: Case, *, with_cli: bool) -> list[str]:
    """Run a case; return what is wrong."""
    engine = new_bench()
    peer = new_bench() if with_cli else None
    problems: list[str] = []
    try:
        for number, step in enumerate(case.steps):
            where = f"step {number} ({step.verb})"
            mine = _run(engine, step, engine.engine)
            problems += _check_code(where, step, mine)
            if peer is None:
                engine.calls()
                continue
            theirs = _run(peer, step, peer.cli)
            problems += _compare(where, step, (engine, mine), (peer, theirs))
        if case.left is not None and len(engine.things()) != case.left:
            problems.append(f"left in the cloud: {engine.things()}")
        if case.steps[-1].verb == "destroy" and case.steps[-1].code == 0 and engine.latest().get("resources"):
            problems.append(f"left in state: {engine.names()}")
    finally:
        for bench in (engine, peer):
            if bench is not None and not problems:
                shutil.rmtree(bench.root, ignore_errors=True)
    return problems


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
    return run(step.verb, spec=step.spec)


def _check_code(where: str, step: Step, ended: Ended) -> list[str]:
    if step.code >= 0 and (ended.code != 0) != (step.code != 0):
        return [f"{where}: exit code {ended.code}: {ended.errors() or ended.text[-1500:]}"]
    return [f"{where}: exit code {ended.code}: {ended.text[-1500:]}"] if ended.code not in (0, 1) else []


def _compare(where: str, step: Step, mine: tuple[Bench, Ended], theirs: tuple[Bench, Ended]) -> list[str]:
    (engine, one), (peer, two) = mine, theirs
    problems = []
    if (one.code != 0) != (two.code != 0):
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


def _jobs(wanted: set[str], with_cli: bool) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    for case in [*(CASES if "cases" in wanted else []), *(pairs() if "pairs" in wanted else [])]:
        yield case.name, partial(check_case, case, with_cli=with_cli)
    for refusal in REFUSALS if "refusals" in wanted else []:
        yield f"refused: {refusal.name}", partial(check_refusal, refusal)
    for operation in crash.OPERATIONS if "crash" in wanted else []:
        found = crash.points(operation)
        print(f"     {operation}: {len(found)} crash points")
        for point, follow in product(found, ["destroy", "up", *(["cli"] if with_cli else [])]):
            yield f"crash: {point}, then {follow}", partial(crash.check, point, follow)
    for item in takeovers() if "takeover" in wanted and with_cli else []:
        yield f"takeover: {item.name}", partial(check_takeover, item)


def main() -> int:
    """Run the matrices asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["all"])
    parser.add_argument("--engine-only", action="store_true")
    parser.add_argument("-k", default="")
    given = parser.parse_args()
    with_cli = cli_found() is not None and not given.engine_only
    wanted = {"cases", "pairs", "refusals", "crash", "takeover"} if "all" in given.what else set(given.what)
    if not with_cli:
        print("NOTE: no pulumi CLI on PATH (or --engine-only): the built-in engine runs alone, nothing is compared")
    bad = count = 0
    for name, job in _jobs(wanted, with_cli):
        if given.k not in name:
            continue
        begin = time.monotonic()
        problems = job()
        count += 1
        bad += bool(problems)
        print(f"{'FAIL' if problems else 'ok':4} {time.monotonic() - begin:5.1f} s  {name}", flush=True)
        for problem in problems:
            print("      " + problem.replace("\n", "\n      "))
    print(f"{count} cases, {bad} bad; compared with the CLI: {'yes' if with_cli else 'no'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
