"""What runs have cost, by stage, stack, user or recipe, and what of it was not training: from the ledger and the records here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainyard.errors import TrainyardError, UserError
from trainyard.ledger.rows import RunFilter, RunRow
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.records import stagecost
from trainyard.runs.records.billing import BILLED
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.runrows import take_in
from trainyard.runs.records.summary import stages_of
from trainyard.runs.verbs.latebills import fill_in
from trainyard.runs.verbs.listing import moment_of
from trainyard.runs.verbs.sharing import pull_shared

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger

WAYS = ("stage", "stack", "user", "recipe")
"""What --by takes."""
_PODS = "pods."
"""How the ledger's entry of pods that a stack declares begins; the stack's name follows."""
_UNKNOWN = "unknown"
_MOST = 1e7
"""Dollars that no run costs."""
_NAME = 46
"""Columns of a name: then a line has 80 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostShare:
    """One line: dollars of so many runs, and their share of the whole."""

    name: str
    runs: int
    dollars: float
    share: float
    billed: float | None = None
    """What the cloud bills for those of them whose bill is known; None: of none."""


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
    billed: float
    """What clouds bill for the runs whose bill is known."""
    computed: float
    """What is reckoned for the same runs."""
    parts: tuple[CostShare, ...]


def costs(context: CommandContext, since: str | None, by: str) -> CostReport:
    """Return what the runs that began since a time (``7d``, a date; None: ever) have cost, the dearest first.

    Raises UserError for a time that is none, for another way than WAYS, and where the ledger cannot be used.
    """
    if by not in WAYS:
        raise UserError(f"--by {by}: there is no such way", hint=f"Ways: {', '.join(WAYS)}.")
    ledger, moment = context.ledger(), moment_of(since)
    pull_shared(context, ledger)
    fill_in(context)
    take_in(ledger, context.places.runs)
    rows = {row.id: row for row in ledger.runs(RunFilter(since=moment))}
    dollars = {**ledger.costs_since(moment or 0.0), **{run: row.cost for run, row in rows.items()}}
    stages_told = {event.run: event.data.get("stages") for event in ledger.events(kind="ended", since=moment)}
    bills = _bills(ledger, moment, set(dollars))
    parts: dict[str, dict[RunId, float]] = defaultdict(dict)
    staged = not_training = 0.0
    for run, whole in dollars.items():
        stages = _known_stages(stages_told.get(run)) or (_stages(context, run) if run in rows else {})
        staged += sum(stages.values())
        not_training += sum(stages.values()) - stages.get(stagecost.TRAIN, 0.0)
        for name, part in (stages or {_UNKNOWN: whole}).items() if by == "stage" else [(_group(run, rows.get(run), by), whole)]:
            parts[name][run] = part
    total = sum(part for each in parts.values() for part in each.values())
    shares = [_share(name, each, total, {} if by == "stage" else bills) for name, each in parts.items()]
    return CostReport(
        by=by, runs=len(dollars), dollars=round(total, 4), staged=round(staged, 4), not_training=round(not_training, 4),
        billed=round(sum(billed for billed, _ in bills.values()), 4), computed=round(sum(computed for _, computed in bills.values()), 4),
        parts=tuple(sorted(shares, key=lambda share: (-share.dollars, share.name))),
    )  # fmt: skip


def _share(name: str, dollars: Mapping[RunId, float], total: float, bills: Mapping[RunId, tuple[float, float]]) -> CostShare:
    whole, billed = sum(dollars.values()), [bills[run][0] for run in dollars if run in bills]
    return CostShare(
        name=name, runs=len(dollars), dollars=round(whole, 4), share=whole / total if total else 0.0,
        billed=round(sum(billed), 4) if billed else None,
    )  # fmt: skip


def _bills(ledger: Ledger, moment: float | None, asked: Collection[RunId]) -> dict[RunId, tuple[float, float]]:
    """Return the newest that clouds bill for runs, and what was reckoned for them, in dollars; of others nothing."""
    events = [event for event in ledger.events(kind=BILLED, since=moment) if event.run in asked]
    said = {event.run: (_dollars(event.data.get("dollars")), _dollars(event.data.get("computed"))) for event in events}
    return {run: (billed, computed) for run, (billed, computed) in said.items() if billed is not None and computed is not None}


def _known_stages(stages: object) -> dict[str, float]:
    """Return the dollars by stage that a run's last event tells; nothing where an older version wrote it."""
    parts = {str(name): _dollars(part) for name, part in stages.items()} if isinstance(stages, dict) else {}
    return {name: part for name, part in parts.items() if part is not None}


def _dollars(value: object) -> float | None:
    """Return what an event says of money, which may come from any machine that shares a bucket; None for what cannot be."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= _MOST else None


def _stages(context: CommandContext, run: RunId) -> dict[str, float]:
    """Return a run's dollars by stage; nothing where its record is not here, or cannot be read."""
    try:
        return dict(stages_of(RunFolder(run.folder(context.places.runs)).load()))
    except (OSError, TrainyardError):
        return {}


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
    if report.computed:
        yield f"billed by clouds: ${report.billed:,.2f}, where ${report.computed:,.2f} are reckoned"
    if report.staged:
        share = report.not_training / report.staged
        yield f"not training: ${report.not_training:,.2f} of ${report.staged:,.2f} whose stages are known here ({share:.0%})"
