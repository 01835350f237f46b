"""What runs have cost, by stage, stack, user or recipe, and what of it was not training: from the ledger and the records here."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from trainyard.errors import TrainyardError, UserError
from trainyard.ledger.rows import RunFilter, RunRow
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.records import stagecost
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.runrows import take_in
from trainyard.runs.records.summary import cost
from trainyard.runs.verbs.listing import moment_of

WAYS = ("stage", "stack", "user", "recipe")
"""What --by takes."""
_PODS = "pods."
"""How the ledger's entry of pods that a stack declares begins; the stack's name follows."""
_UNKNOWN = "unknown"
_NAME = 46
"""Columns of a name: then a line has 80 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostShare:
    """One line: dollars of so many runs, and their share of the whole."""

    name: str
    runs: int
    dollars: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """What was spent since a moment, as ``invoke costs --json`` tells it; money is in dollars."""

    by: str
    runs: int
    dollars: float
    staged: float
    """Dollars of the runs whose stages are known: their records are here."""
    not_training: float
    """Of these, what was not training."""
    parts: tuple[CostShare, ...]


def costs(context: CommandContext, since: str | None, by: str) -> CostReport:
    """Return what the runs that began since a time (``7d``, a date; None: ever) have cost, the dearest first.

    Raises UserError for a time that is none, for another way than WAYS, and where the ledger cannot be used.
    """
    if by not in WAYS:
        raise UserError(f"--by {by}: there is no such way", hint=f"Ways: {', '.join(WAYS)}.")
    ledger, moment = context.ledger(), moment_of(since)
    take_in(ledger, context.places.runs)
    rows = {row.id: row for row in ledger.runs(RunFilter(since=moment))}
    dollars = {**ledger.costs_since(moment or 0.0), **{run: row.cost for run, row in rows.items()}}
    parts: dict[str, dict[RunId, float]] = defaultdict(dict)
    staged = not_training = 0.0
    for run, whole in dollars.items():
        stages = _stages(context, run) if run in rows else {}
        staged += sum(stages.values())
        not_training += sum(stages.values()) - stages.get(stagecost.TRAIN, 0.0)
        for name, part in (stages or {_UNKNOWN: whole}).items() if by == "stage" else [(_group(run, rows.get(run), by), whole)]:
            parts[name][run] = part
    total = sum(part for each in parts.values() for part in each.values())
    shares = [
        CostShare(name=name, runs=len(each), dollars=round(sum(each.values()), 4), share=sum(each.values()) / total if total else 0.0)
        for name, each in parts.items()
    ]
    return CostReport(
        by=by, runs=len(dollars), dollars=round(total, 4), staged=round(staged, 4), not_training=round(not_training, 4),
        parts=tuple(sorted(shares, key=lambda share: (-share.dollars, share.name))),
    )  # fmt: skip


def _stages(context: CommandContext, run: RunId) -> dict[str, float]:
    """Return a run's dollars by stage; nothing where its record is not here, or cannot be read."""
    folder, now = RunFolder(run.folder(context.places.runs)), time.time()
    try:
        record = folder.load()
    except (OSError, TrainyardError):
        return {}
    until = record.ended or now
    return dict(stagecost.as_costs(stagecost.by_stage(record, cost(record, until), until)))


def _group(run: RunId, row: RunRow | None, by: str) -> str:
    if by == "user":
        return run.user
    if row is not None:
        return (row.stack if by == "stack" else row.recipe) or _UNKNOWN
    declares = run.label.startswith(_PODS)
    return (run.label.removeprefix(_PODS) if by == "stack" else "declared pods") if declares else _UNKNOWN


def lines(report: CostReport) -> Iterator[str]:
    """Yield the report for a person, on 80 columns unless a name is longer."""
    if not report.runs:
        yield "no run has cost anything in this time"
        return
    yield f"{report.by:<{_NAME}}  {'runs':>6}  {'dollars':>12}  {'share':>6}"
    for part in (*report.parts, CostShare(name="all", runs=report.runs, dollars=report.dollars, share=1.0)):
        yield f"{part.name:<{_NAME}}  {part.runs:>6,}  {part.dollars:>12,.2f}  {part.share:>6.0%}"
    if report.staged:
        share = report.not_training / report.staged
        yield f"not training: ${report.not_training:,.2f} of ${report.staged:,.2f} whose stages are known here ({share:.0%})"
