"""How the trials of a sweep stand: what the queue has of them, what the ledger has of their runs, and their figures so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.ledger.rows import RunRow
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.records.progress import Curve, has_diverged, loss_curve
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.runrows import row_of, take_in
from trainyard.runs.sweeps.book import Sweep, SweepTrial, all_sweeps
from trainyard.runs.sweeps.objective import Objective, read_objective
from trainyard.runs.sweeps.report import ReportedTrial, SweepOverview
from trainyard.runs.sweeps.tuning import PastTrial

_JUDGED = ("succeeded", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingTrial:
    """One trial now. ``entry``: the queue's, ``rows``: its run's attempts, oldest first."""

    trial: SweepTrial
    entry: QueueEntry | None
    rows: tuple[RunRow, ...]
    curve: Curve
    is_dropped: bool = False
    """Its sweep was ended before it came to the queue."""

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more comes of it."""
        if self.trial.refused is not None:
            return True
        if self.entry is not None:
            return self.entry.state == "over"
        return self.rows[-1].over if self.rows else self.is_dropped

    @property
    def is_known(self) -> bool:
        """Tell whether it got as far as the queue."""
        return self.entry is not None or bool(self.rows)

    @property
    def state(self) -> str:
        """Return in a word how it stands."""
        if self.trial.refused is not None:
            return "refused"
        if self.entry is not None and not self.is_over and self.entry.state == "queued":
            return "held" if self.entry.held else "approval" if self.entry.approval == "needed" else "waiting"
        if not self.rows:
            return ("withdrawn" if self.is_dropped else "waiting") if self.entry is None else self.entry.outcome or "starting"
        state = self.rows[-1].state
        return "pruned" if self.trial.pruned and self.is_over and state != "succeeded" else state

    def past(self, objective: Objective) -> PastTrial:
        """Return it as the sampler sees it."""
        value = objective.value(self.curve)
        if not self.is_over:
            return PastTrial(self.trial.parameters, "running", value, self.curve)
        judged = self.state in _JUDGED and value is not None
        return PastTrial(
            self.trial.parameters, "complete" if judged else "pruned" if self.state == "pruned" else "failed", value, self.curve
        )


def look(context: CommandContext, sweep: Sweep) -> list[StandingTrial]:
    """Return how each trial that was begun stands, by number; raises what the ledger raises."""
    ledger = context.ledger()
    take_in(ledger, context.places.runs)
    entries = {entry.label: entry for entry in QueueRows(ledger.database).entries(over=True, group=str(sweep))}
    newest = ledger.newest_attempts([(trial.user, trial.label) for trial in sweep.trials])
    asked = [RunId(user, label, number) for (user, label), last in newest.items() for number in range(1, last + 1)]
    rows: dict[str, list[RunRow]] = {}
    for row in sorted(ledger.rows_of(asked), key=lambda row: row.attempt):
        rows.setdefault(row.label, []).append(row)
    figure = read_objective(sweep.definition.objective).name
    return [
        StandingTrial(
            trial=trial, entry=entries.get(trial.label), rows=tuple(_fresh(context, row) for row in rows.get(trial.label, ())),
            curve=trial.curve or figures_here(context, rows.get(trial.label, ()), figure),
            is_dropped=sweep.ended and trial.label not in entries and trial.label not in rows,
        )
        for trial in sweep.trials
    ]  # fmt: skip


def figures_here(context: CommandContext, rows: Sequence[RunRow], figure: str) -> Curve:
    """Return what the newest attempt of a run has logged of a figure, as far as that is on this machine."""
    path = RunFolder(rows[-1].id.folder(context.places.runs)).metrics if rows else None
    return judged(path.read_bytes(), figure) if path is not None and path.is_file() else ()


def judged(metrics: bytes, figure: str) -> Curve:
    """Return what a trial has logged of a figure; nothing where that became NaN or infinite: what it was before is nobody's to rank."""
    return () if has_diverged(metrics, figure) else loss_curve(metrics, figure)


def report(context: CommandContext, sweep: Sweep) -> SweepOverview:
    """Return a sweep as it stands, its best trials first; raises what the ledger raises."""
    definition = sweep.definition
    objective = read_objective(definition.objective)
    standing = look(context, sweep)
    reported = [_reported(sweep, one, objective) for one in standing]
    ranked = sorted(reported, key=lambda one: (one.state not in _JUDGED, *objective.rank(one.value), one.number))
    best = next((one.run for one in ranked if one.state == "succeeded" and one.value is not None), None)
    return SweepOverview(
        sweep=str(sweep), stack=definition.stack, recipe=definition.recipe, sampler=definition.sampler, objective=str(objective),
        figure=objective.name, planned=definition.trials, ended=sweep.ended, best=best,
        cost=round(sum(one.cost for one in reported), 6), trials=tuple(ranked),
    )  # fmt: skip


def all_reports(context: CommandContext) -> list[SweepOverview]:
    """Return all sweeps as they stand, oldest first; raises what the ledger raises."""
    return [report(context, sweep) for sweep in all_sweeps(context.ledger())]


def _fresh(context: CommandContext, row: RunRow) -> RunRow:
    """Return the row of a run that goes on here with its figures of this moment."""
    folder = RunFolder(row.id.folder(context.places.runs))
    return row if row.over or not (folder.path / "run.json").is_file() else row_of(folder.load(), folder)


def _reported(sweep: Sweep, one: StandingTrial, objective: Objective) -> ReportedTrial:
    row = one.rows[-1] if one.rows else None
    value = objective.value(one.curve)
    if value is None and row is not None and objective.name == "loss":
        value = row.loss
    labels = {dimension.name: dimension.label for dimension in sweep.definition.dimensions}
    return ReportedTrial(
        number=one.trial.number, run=f"{one.trial.user}/{one.trial.label}", state=one.state, over=one.is_over, value=value,
        parameters={labels.get(name, name): text for name, text in one.trial.parameters.items()},
        steps_done=row.steps_done if row else 0, steps_planned=row.steps_planned if row else 0, says=_says(one),
        seconds=max(0.0, (row.ended or time.time()) - row.created) if row else None,
        cost=sum(each.cost for each in one.rows), curve=one.curve,
    )  # fmt: skip


def _says(one: StandingTrial) -> str | None:
    if one.trial.refused is not None:
        return one.trial.refused.partition("\n")[0]
    if one.trial.pruned is not None:
        return f"pruned at step {one.trial.pruned.step}, where it had {one.trial.pruned.value:.4f}: worse than the median of the others"
    error = one.rows[-1].error if one.rows else None
    if error and one.state != "succeeded":
        return error.partition("\n")[0]
    entry = one.entry
    if entry is None or one.state == "succeeded":
        return None
    return entry.held or (f"waits for approval: {entry.approval_why}" if entry.approval == "needed" and not one.is_over else entry.reason)
