"""Several runs side by side: a table, what their values differ in, and their loss curves, in the terminal or as a picture."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import UserError
from trainyard.pod.files import printable
from trainyard.recipes.summaries import Value
from trainyard.runs.context import CommandContext
from trainyard.runs.records.curves import Drawn, Panel, picture, plot
from trainyard.runs.records.progress import Curve, duration, loss_curve
from trainyard.runs.records.runrows import state_of
from trainyard.runs.records.summary import summarize
from trainyard.runs.verbs.past import SeenAttempt, all_seen
from trainyard.runs.verbs.show import WIDTH

_MARKS = "123456789abcdefghijklmnopqrstuvwxyz"
_HEAD = ("", "state", "steps", "loss", "best", "training", "$", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One run among others. Money is in dollars, ``training`` are seconds."""

    mark: str
    """What its curve is drawn with."""
    run: str
    state: str
    recipe: str
    stack: str
    steps: int
    loss: float | None
    best: float | None
    """The lowest loss that was logged."""
    training: float
    cost: float
    differing: dict[str, Value]
    """Its values, of those in which the runs differ."""
    curve: Curve
    """Step and loss."""


def compare(context: CommandContext, references: Sequence[str], stack: str | None) -> list[ComparedRun]:
    """Return the runs that a person names, each once; raises UserError for one that is nowhere, and for too many."""
    names = list(dict.fromkeys(references))
    if len(names) > len(_MARKS):
        raise UserError(f"{len(names)} runs are too many for one picture: {len(_MARKS)} are the most")
    with all_seen(context, names, stack) as attempts:
        keys = {name for one in attempts for name in one.record.values}
        values = {name: [_comparable(one.record.values.get(name)) for one in attempts] for name in sorted(keys)}
        differing = [name for name, all_of_it in values.items() if any(value != all_of_it[0] for value in all_of_it)]
        return [_row(mark, one, differing) for mark, one in zip(_MARKS, attempts, strict=False)]


def _comparable(value: Value) -> Value:
    """Return a value as it is shown and held against others: a file by its name, a list as its words."""
    if isinstance(value, list):
        return shlex.join(value)
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _row(mark: str, attempt: SeenAttempt, differing: Sequence[str]) -> ComparedRun:
    record = attempt.record
    summary = summarize(record, attempt.folder)
    curve = loss_curve(attempt.folder.metrics.read_bytes()) if attempt.folder.metrics.is_file() else ()
    return ComparedRun(
        mark=mark, run=str(attempt.key), state=state_of(record), recipe=record.recipe, stack=record.environment, steps=summary.steps_done,
        loss=summary.final_loss, best=min((loss for _, loss in curve), default=None), cost=summary.cost, curve=curve,
        training=next((stage.seconds for stage in summary.stages if stage.name == "train"), 0.0),
        differing={name: _comparable(record.values.get(name)) for name in differing},
    )  # fmt: skip


def lines(rows: Sequence[ComparedRun], width: int = WIDTH) -> list[str]:
    """Return table, differing values and curves for a person, as wide as his terminal."""
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    table = ["  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in cells]
    return [*table, *_differing(rows, width), *plot([Drawn(row.mark, row.run, row.curve) for row in rows], width)]


def _cells(row: ComparedRun) -> tuple[str, ...]:
    loss, best = ("" if value is None else f"{value:.4f}" for value in (row.loss, row.best))
    return row.mark, row.state, str(row.steps or ""), loss, best, duration(row.training), f"{row.cost:.2f}", row.run


def _differing(rows: Sequence[ComparedRun], width: int) -> Iterator[str]:
    for name in rows[0].differing if rows else ():
        values = ", ".join(f"{row.mark}: {row.differing[name]}" for row in rows)
        yield from textwrap.wrap(
            printable(f"{name:<20} {values}"), width, subsequent_indent=" " * 21, break_long_words=False, break_on_hyphens=False
        )


def draw(rows: Sequence[ComparedRun], to: Path) -> None:
    """Draw the loss curves of runs into a picture, as picture() does."""
    picture([Panel("loss", [Drawn(row.mark, _label(row), row.curve) for row in rows])], to)


def _label(row: ComparedRun) -> str:
    values = ", ".join(f"{name}={value}" for name, value in list(row.differing.items())[:3])
    return f"{row.run}" + (f" ({values})" if values else "")
