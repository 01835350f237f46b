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
from trainyard.runs.records.progress import Curve, duration, loss_curve
from trainyard.runs.records.runrows import state_of
from trainyard.runs.records.summary import summarize
from trainyard.runs.verbs.past import SeenAttempt, all_seen
from trainyard.runs.verbs.show import WIDTH

_MARKS = "123456789abcdefghijklmnopqrstuvwxyz"
_HEAD = ("", "state", "steps", "loss", "best", "training", "$", "run")
_HEIGHT, _SCALE = 16, 23
"""Lines of a plot, and columns beside it that its scales need."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One curve of a picture."""

    mark: str
    """What it is drawn with in a terminal."""
    label: str
    curve: Curve


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


def plot(curves: Sequence[Drawn], width: int, figure_of: str = "loss") -> list[str]:
    """Return curves as text: each is drawn with its run's mark, so that no colour is needed."""
    drawn = [each for each in curves if len(each.curve) > 1]
    if not drawn:
        return [f"no run has logged a {figure_of} twice: there is no curve to draw"]
    import plotille

    values = [value for each in drawn for _, value in each.curve]
    steps = [step for each in drawn for step, _ in each.curve]
    room = (max(values) - min(values)) * 0.02 or 1.0
    figure = plotille.Figure()
    figure.width, figure.height, figure.with_colors = max(20, width - _SCALE), _HEIGHT, False
    figure.x_label, figure.y_label = "step", figure_of
    figure.x_ticks_fkt = lambda value, _: f"{value:.0f}"
    figure.y_ticks_fkt = lambda value, _: f"{value:.4f}"
    figure.set_x_limits(min_=min(steps), max_=max(max(steps), min(steps) + 1))
    figure.set_y_limits(min_=min(values) - room, max_=max(values) + room)
    for each in drawn:
        figure.plot([step for step, _ in each.curve], [value for _, value in each.curve], marker=each.mark)
    return str(figure.show()).splitlines()


def draw(rows: Sequence[ComparedRun], to: Path) -> None:
    """Draw the loss curves of runs into a picture, as picture() does."""
    picture([Drawn(row.mark, _label(row), row.curve) for row in rows], to)


def picture(curves: Sequence[Drawn], to: Path, figure_of: str = "loss") -> None:
    """Draw curves into a picture (PNG, or what the file's ending says).

    Raises UserError where matplotlib is missing, the ending is none of a picture, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        elsewhere = "Elsewhere: pipx install --force 'trainyard[plots]', or the same with pip or uv."
        hint = f"In a checkout: .venv/bin/pip install matplotlib\n{elsewhere}"
        raise UserError(f"a picture needs the package '{error.name}', which this Python does not have", hint=hint) from None
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for each in curves:
        axes.plot([step for step, _ in each.curve], [value for _, value in each.curve], label=each.label)
    axes.set_xlabel("step")
    axes.set_ylabel(figure_of)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    try:
        figure.savefig(to, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{to}: the picture cannot be written: {error}") from None


def _label(row: ComparedRun) -> str:
    values = ", ".join(f"{name}={value}" for name, value in list(row.differing.items())[:3])
    return f"{row.run}" + (f" ({values})" if values else "")
