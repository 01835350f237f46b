"""The built-in engine against the Pulumi CLI: up, up without a change, destroy, in one run, interleaved.

Whole processes, the same program, provider and fresh state for both, with two resources and with 200 (each
engine writes the whole state before and after each step). Prints seconds (median, min-max), CPU seconds, the
peak memory of the largest process, and the ratio of the medians where a CLI is on PATH.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.engine.bench import Bench, cli_found

ROUNDS = {2: 5, 200: 3}
"""How often a program of so many resources is timed."""
STEPS = ("up", "up, no change", "destroy")


@dataclass(frozen=True, slots=True)
class Run:
    """One whole process and its descendants."""

    seconds: float
    cpu: float
    peak_mb: float


def main() -> None:
    """Run the benchmark and print a table a size."""
    engines = ["builtin", "cli"] if cli_found() else ["builtin"]
    print(machine())
    if "cli" not in engines:
        print("no Pulumi CLI on PATH: only the built-in engine is timed")
    for size, rounds in ROUNDS.items():
        runs: dict[tuple[str, str], list[Run]] = {}
        for number in range(rounds + 1):
            for engine in engines:
                for step, run in one_round(engine, size).items():
                    if number:  # the first round warms the disk cache
                        runs.setdefault((engine, step), []).append(run)
        show(f"{size} resources, {rounds} interleaved runs, load {os.getloadavg()[0]:.1f} at the end", engines, runs)


def machine() -> str:
    """Say where and beside what is measured: a figure without its load says little."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, load {load:.1f}" + (
        ": not quiet, the ratios count more than the seconds" if load > 0.5 else ""
    )


def one_round(engine: str, size: int) -> dict[str, Run]:
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


def timed(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Run:
    """Run a command to its end; exits loudly when it fails, for a failed run is no figure."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    # Where Python may not keep bytecode, each process would compile all that it imports: that is not what users have.
    env = {key: value for key, value in env.items() if key != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    child = subprocess.Popen(list(argv), cwd=cwd, env={**env, "PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    output = child.stdout.read()
    child.stdout.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(argv)} exited {child.returncode}:\n{output.decode(errors='replace')}")
    return Run(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def show(title: str, engines: Sequence[str], runs: Mapping[tuple[str, str], Sequence[Run]]) -> None:
    """Print one table."""
    table = Table("step", *(f"{engine}: s (min-max), CPU s, MB" for engine in engines), "ratio", title=title)
    for step in STEPS:
        cells, medians = [], []
        for engine in engines:
            found = runs[engine, step]
            seconds = [run.seconds for run in found]
            medians.append(statistics.median(seconds))
            cpu, peak = statistics.median(run.cpu for run in found), max(run.peak_mb for run in found)
            cells.append(f"{medians[-1]:.2f} ({min(seconds):.2f}-{max(seconds):.2f}), {cpu:.2f}, {peak:.0f}")
        table.add_row(step, *cells, f"{medians[1] / medians[0]:.1f}x faster" if len(medians) == 2 else "")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
