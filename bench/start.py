"""How long a user waits: command -> create, create -> first output, end of training -> pod gone.

A whole ``invoke train`` of a small real script on the local stack, per engine found, first run and later runs.
Targets on two quiet cores with the built-in engine: 1.5 s, 5 s and 3 s.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.e2e.yard import Yard
from trainyard.ledger.ledger import Ledger
from trainyard.runs.records.identity import RunId
from trainyard.stacks import installed

LATER_RUNS = 5
TARGETS = {"command -> create": 1.5, "create -> first output": 5.0, "end of training -> pod gone": 3.0}


def main() -> None:
    """Run the benchmark and print one table an engine."""
    # Where Python may not keep bytecode, each process would compile all that it imports: that is not what users have.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    engines = ["builtin"]
    probe = Yard(Path(tempfile.mkdtemp(prefix="tyb", dir="/tmp")))
    if installed.find(probe.env) is not None:
        engines.append("cli")
    else:
        print("no Pulumi CLI on PATH: only the built-in engine is timed")
    shutil.rmtree(probe.base)
    for engine in engines:
        show(engine, measure(engine))


def measure(engine: str) -> list[dict[str, float]]:
    """Return the seconds of the first run and of the later ones."""
    yard = Yard(Path(tempfile.mkdtemp(prefix="tyb", dir="/tmp")), {"TRAINYARD_ENGINE": engine})
    try:
        return [one(yard, f"r{number}") for number in range(1 + LATER_RUNS)]
    finally:
        yard.close()
        shutil.rmtree(yard.base, ignore_errors=True)


def one(yard: Yard, label: str) -> dict[str, float]:
    """Run one training and return the seconds between its events."""
    began = time.time()
    yard.invoke(*yard.train("--name", label, steps=3, pause=0.1)).expect()
    ended = time.time()
    times = {event.kind: event.time for event in Ledger(yard.places.ledger).events(RunId("tester", label))}
    created = float(yard.record(label)["pod"]["created_epoch"])
    return {
        "command -> create": created - began,
        "create -> first output": times["first output"] - created,
        "end of training -> pod gone": times["ended"] - times["trained"],
        "whole command": ended - began,
    }


def show(engine: str, runs: list[dict[str, float]]) -> None:
    """Print the table of one engine."""
    table = Table("stage", "first run", "later: median", "min", "max", "target", title=f"engine {engine}, seconds")
    for stage in runs[0]:
        later = [run[stage] for run in runs[1:]]
        figures = (runs[0][stage], statistics.median(later), min(later), max(later))
        table.add_row(stage, *(f"{figure:.2f}" for figure in figures), f"{TARGETS[stage]:.1f}" if stage in TARGETS else "")
    Console().print(table)


if __name__ == "__main__":
    main()
