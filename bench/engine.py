"""The built-in engine against the Pulumi CLI: up, up without a change, destroy, in one run, interleaved.

Whole processes, the same program, provider and fresh state for both, with two resources and with 200 (each
engine writes the whole state before and after each step). Prints seconds (median, min-max), CPU seconds, the
peak memory of the process tree, and the ratio of the medians where a CLI is on PATH.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import Usage, machine, measure
from tests.engine.bench import Bench, cli_found

ROUNDS = {2: 5, 200: 3}
"""How often a program of so many resources is timed."""
STEPS = ("up", "up, no change", "destroy")


def main() -> None:
    """Run the benchmark and print a table a size."""
    engines = ["builtin", "cli"] if cli_found() else ["builtin"]
    print(machine())
    if "cli" not in engines:
        print("no Pulumi CLI on PATH: only the built-in engine is timed")
    for size, rounds in ROUNDS.items():
        runs: dict[tuple[str, str], list[Usage]] = {}
        for number in range(rounds + 1):
            for engine in engines:
                for step, run in one_round(engine, size).items():
                    if number:  # the first round warms the disk cache
                        runs.setdefault((engine, step), []).append(run)
        show(f"{size} resources, {rounds} interleaved runs, load {os.getloadavg()[0]:.1f} at the end", engines, runs)


def one_round(engine: str, size: int) -> dict[str, Usage]:
    """Bring a fresh stack up, up again and destroy it."""
    root = Path(tempfile.mkdtemp(prefix="tyb", dir="/tmp"))
    try:
        bench = Bench(root)
        bench.spec([{"name": f"pod-{number}", "props": {"label": str(number)}} for number in range(size)])
        return {step: timed(command(engine, step), bench.env, root) for step in STEPS}
    finally:
        shutil.rmtree(root, ignore_errors=True)


def command(engine: str, step: str) -> list[str]:
    """Return the command line of a step."""
    verb = step.partition(",")[0]
    if engine == "builtin":
        return [sys.executable, "-m", "trainyard.engine", verb, "--stack", "dev", "-y"]
    return ["pulumi", verb, "--stack", "dev", "-y", "-f", "--non-interactive"]


def timed(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Usage:
    """Run a command to its end, with the checkout's programs on its PATH."""
    return measure(argv, {**env, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"}, cwd)


def show(title: str, engines: Sequence[str], runs: Mapping[tuple[str, str], Sequence[Usage]]) -> None:
    """Print one table."""
    table = Table("step", *(f"{engine}: s (min-max), CPU s, MB" for engine in engines), "ratio", title=title)
    for step in STEPS:
        cells, medians = [], []
        for engine in engines:
            found = runs[engine, step]
            seconds = [run.seconds for run in found]
            medians.append(statistics.median(seconds))
            cpu, peak = statistics.median(run.cpu for run in found), max(run.peak for run in found)
            cells.append(f"{medians[-1]:.2f} ({min(seconds):.2f}-{max(seconds):.2f}), {cpu:.2f}, {peak:.0f}")
        table.add_row(step, *cells, f"{medians[1] / medians[0]:.1f}x faster" if len(medians) == 2 else "")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
