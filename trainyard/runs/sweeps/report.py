"""A sweep as a person reads it: its trials by what they have come to, their curves, the best one and the commands that fetch it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import RefusedError
from trainyard.pod.files import printable
from trainyard.runs.records.curves import Drawn, Panel, picture, plot
from trainyard.runs.records.progress import Curve, duration, of_all
from trainyard.runs.records.summary import place_of

_MARKS = "123456789"
"""What the curves of the best trials are drawn with: more of them nobody could tell apart."""
_INDENT = "       "
WAITING = ("waiting", "held", "approval")
"""States of a trial whose run was not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedTrial:
    """One trial. Money is in dollars, ``seconds`` from its create to its end or to now."""

    number: int
    run: str
    parameters: dict[str, str]
    """By what the person calls what is varied."""
    state: str
    """A run's state, or ``waiting``, ``held``, ``approval``, ``pruned``, ``withdrawn``, ``rejected``, ``refused``."""
    over: bool
    value: float | None
    """What it is judged by."""
    steps_done: int
    steps_planned: int
    seconds: float | None
    cost: float
    says: str | None
    """Why it failed or was pruned."""
    curve: Curve

    @property
    def live(self) -> bool:
        """Tell whether its run was begun and is not over: that costs money."""
        return not self.over and self.state not in WAITING


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOverview:
    """A sweep and its trials, the best first."""

    sweep: str
    stack: str
    recipe: str
    sampler: str
    figure: str
    objective: str
    """Which of its values counts, and of which figure."""
    planned: int
    """Trials that it was to have."""
    ended: bool
    """Nothing is begun for it any more."""
    best: str | None
    """The run of the best trial that has succeeded and has what it is judged by."""
    cost: float
    trials: tuple[ReportedTrial, ...]

    @property
    def over(self) -> bool:
        """Tell whether nothing of it waits or is at work."""
        return self.ended and all(trial.over for trial in self.trials)

    @property
    def has_success(self) -> bool:
        """Tell whether a trial has succeeded, whatever it is judged by."""
        return any(trial.state == "succeeded" for trial in self.trials)

    @property
    def exit_status(self) -> int:
        """Return 0 where a trial has succeeded, 1 where all are over and none has, 3 where something keeps them from going on."""
        if not self.over:
            return RefusedError.exit_code
        return 0 if self.has_success else 1


def lines(report: SweepOverview, width: int) -> list[str]:
    """Return the report for a person whose terminal has so many columns."""
    marked = {trial.run: mark for mark, trial in zip(_MARKS, (one for one in report.trials if len(one.curve) > 1), strict=False)}
    head = f"sweep {report.sweep}: {report.recipe} on stack {report.stack}, {report.sampler}, by {report.objective}"
    curves = [Drawn(marked[trial.run], trial.run, trial.curve) for trial in report.trials if trial.run in marked]
    shown = plot(curves, width, report.figure) if report.trials else []
    return [head, *_table(report, marked, width), *shown, *_closing(report)]


def overview(reports: Sequence[SweepOverview]) -> list[str]:
    """Return sweeps for a person, one line each, oldest first."""
    if not reports:
        return ["no sweep yet: invoke train --sweep NAME=VALUES begins one"]
    heads = ("sweep", "trials", "succeeded", "best", "$", "state")
    return _aligned([heads, *map(_overview_cells, reports)])


def _overview_cells(report: SweepOverview) -> tuple[str, ...]:
    over, succeeded = sum(trial.over for trial in report.trials), sum(trial.state == "succeeded" for trial in report.trials)
    best = next((trial for trial in report.trials if trial.run == report.best), None)
    value = "-" if best is None or best.value is None else f"{best.value:.4f} ({best.number})"
    return report.sweep, f"{over}/{report.planned}", str(succeeded), value, f"{report.cost:.2f}", "over" if report.over else "goes on"


def draw(report: SweepOverview, to: Path) -> None:
    """Draw the curves of the best trials into a picture; raises what picture() does."""
    drawn = [trial for trial in report.trials if len(trial.curve) > 1][: len(_MARKS)]
    labels = (f"{trial.number}: {_parameters(trial)}" for trial in drawn)
    curves = [Drawn(str(trial.number), label, trial.curve) for label, trial in zip(labels, drawn, strict=True)]
    picture([Panel(report.figure, curves)], to)


def _table(report: SweepOverview, marked: dict[str, str], width: int) -> Iterator[str]:
    names = list(report.trials[0].parameters) if report.trials else []
    heads = ("", "trial", *names, report.figure, "state", "steps", "time", "$")
    rows = [
        (marked.get(trial.run, ""), str(trial.number), *map(printable, trial.parameters.values()), *_figures(trial))
        for trial in report.trials
    ]
    table = _aligned([heads, *rows])
    below = max(map(len, table)) > width
    if below:
        figures = [(marked.get(trial.run, ""), str(trial.number), *_figures(trial)) for trial in report.trials]
        table = _aligned([heads[:2] + heads[2 + len(names) :], *figures])
    yield table[0]
    for trial, line in zip(report.trials, table[1:], strict=True):
        yield line
        if below:
            yield printable(f"{_INDENT}{_parameters(trial)}")
        if trial.says:
            yield printable(f"{_INDENT}{trial.says}")


def _figures(trial: ReportedTrial) -> tuple[str, ...]:
    value = "-" if trial.value is None else f"{trial.value:.4f}"
    steps = of_all(trial.steps_done, trial.steps_planned) if trial.steps_done or trial.steps_planned else "-"
    return value, trial.state, steps, "-" if trial.seconds is None else duration(trial.seconds), f"{trial.cost:.2f}"


def _parameters(trial: ReportedTrial) -> str:
    return ", ".join(f"{name}={printable(value)}" for name, value in trial.parameters.items())


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True)).rstrip() for cells in table]


def _closing(report: SweepOverview) -> Iterator[str]:
    over = [trial for trial in report.trials if trial.over]
    counts = [f"{len(over)} of {report.planned} trials over"]
    for word in ("failed", "pruned", "cancelled", "stopped", "withdrawn", "rejected", "refused"):
        number = sum(trial.state == word for trial in over)
        counts += [f"{number} {word}"] if number else []
    live = sum(trial.live for trial in report.trials)
    counts += [f"{live} at work"] if live else []
    yield f"{', '.join(counts)}; ${report.cost:.2f} in all"
    if not report.over:
        yield f"go on      invoke worker   (or the command that began it); invoke sweep {report.sweep} shows how it stands"
        yield f"end it     invoke cancel {report.sweep}"
    best = next((trial for trial in report.trials if trial.run == report.best), None)
    if best is None and report.has_success:
        yield f"best       not known: no trial that has succeeded tells a finite {report.figure} (--objective names another figure)"
        return
    if best is None:
        yield "best       none: no trial has succeeded" if report.over else "best       not known yet: no trial has succeeded so far"
        return
    value = "" if best.value is None else f"{report.objective} {best.value:.4f}, "
    yield f"best       {best.run}: {value}{_parameters(best)}"
    stack = "" if report.stack == "local" else f" --stack {report.stack}"
    yield f"fetch it   invoke download {best.run} {place_of(best.run.rpartition('/')[2], 1)}{stack}"
    if any(len(trial.curve) > 1 for trial in report.trials):
        yield f"picture    invoke sweep {report.sweep} --png curves.png"
