"""The list of runs for a person: one line a run where the terminal is wide enough, else two; nothing is cut."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence

from trainyard.clock import parse_time
from trainyard.runs.records.progress import duration, of_all
from trainyard.runs.verbs.listing import ListedRun, RunListing

_HEADS = ("run", "state", "steps", "loss", "$", "date", "duration", "lr", "ETA", "result", "recipe", "stack")
_FIRST_LINE = _HEADS.index("date")
"""Columns that stand in a run's first line where there is no room for all."""
_INDENT = "    "


def lines(listing: RunListing, width: int, now: float | None = None) -> list[str]:
    """Return the runs for a person whose terminal has so many columns, what is to be done about a run below it."""
    if not listing.runs:
        return ["no runs in this repository yet" if listing.all else "no run fits; invoke runs shows all"]
    names = [run.run if run.newest else f"{run.run}/{run.attempt}" for run in listing.runs]
    table = [_HEADS, *(_cells(name, run, now or time.time()) for name, run in zip(names, listing.runs, strict=True))]
    rows = _aligned(table)
    if max(map(len, rows)) <= width:
        heads, blocks = [rows[0]], [[row] for row in rows[1:]]
    else:
        first, second = _aligned([cells[:_FIRST_LINE] for cells in table]), _aligned([cells[_FIRST_LINE:] for cells in table])
        heads, *blocks = [[one, f"{_INDENT}{two}".rstrip()] for one, two in zip(first, second, strict=True)]
    text_lines = [*heads]
    for name, run, block in zip(names, listing.runs, blocks, strict=True):
        text_lines += [*block, *(f"{_INDENT}{line}" for line in _below(name, run))]
    return [*text_lines, f"{listing.more:,} older ones: --limit 0 shows all, --since 7d those of a week"] if listing.more else text_lines


def _cells(name: str, run: ListedRun, now: float) -> tuple[str, ...]:
    began = parse_time(run.created)
    return (
        name,
        run.state,
        of_all(run.steps_done, run.steps_planned) if run.steps_done or run.steps_planned else "-",
        "-" if run.loss is None else f"{run.loss:.4f}",
        f"{run.cost:.2f}",
        began.astimezone().strftime("%Y-%m-%d %H:%M") if began else "-",
        "-" if run.duration is None else duration(run.duration),
        "-" if run.learning_rate is None else f"{run.learning_rate:g}",
        "-" if run.eta is None or run.over else duration(run.eta),
        "owed" if run.owed else "deleted" if run.result_deleted else "bucket" if run.s3_url else "home" if run.local_path else "-",
        run.recipe or "?",
        run.stack or "?",
    )


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table]


def _below(name: str, run: ListedRun) -> Iterator[str]:
    """Yield what is to be known or done about a run."""
    if run.error and run.error != run.state:
        yield run.error.partition("\n")[0]
    if not run.over and run.here:
        yield f"not over; this follows it to its end: invoke attach {name}"
    elif not run.over:
        here = run.machine == socket.gethostname()
        yield f"not over as of {run.as_of}; " + ("its record is not here any more" if here else f"driven from {run.machine}")
    if run.delivery:
        yield run.delivery
    if run.owed and run.here:
        yield "its result is not in its bucket yet; this brings it there: invoke recover"
