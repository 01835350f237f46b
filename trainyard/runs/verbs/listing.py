"""What runs there are: of this repository, and of all machines that share its ledger or a bucket."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.clock import format_time, parse_iso
from trainyard.errors import TrainyardError, UserError, in_short
from trainyard.ledger.rows import EVERY_RUN, RESULT_DELETED, RunFilter, RunRow
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.records.delivery import is_under_way, line_of, read_state
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.runrows import UnreadableRun, row_of, take_in
from trainyard.runs.verbs.latebills import fill_in
from trainyard.runs.verbs.sharing import pull_shared

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger

SHOWN = 100
"""How many runs a person is shown unless more are asked for."""
UNREADABLE = "unreadable record"
STATES = (
    "live", "over", "prepared", "up", "started", "trained", "committed", "succeeded", "failed", "cancelled", "stopped", "unreadable",
)  # fmt: skip
"""What --state takes: live, over, or a state's first word."""
_AGO = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|h|d|w)")
_COUNT = re.compile(r"[0-9]{1,9}")
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """One run, as ``invoke runs --json`` tells it: names of fields are a format that scripts read.

    Money is in dollars, moments are UTC text, durations are seconds.
    """

    run: str
    attempt: int
    newest: bool = True
    """It is what the run's name alone means."""
    stack: str | None = None
    recipe: str | None = None
    state: str
    steps_done: int = 0
    steps_planned: int = 0
    loss: float | None = None
    cost: float = 0.0
    s3_url: str | None = None
    local_path: str | None = None
    owed: bool = False
    result_deleted: bool = False
    """Its result was in a bucket, and a person has deleted it there (``store.delete``)."""
    over: bool = True
    error: str | None = None
    delivery: str | None = None
    """What becomes of its delivery, in words."""
    user: str = ""
    label: str = ""
    cloud: str | None = None
    machine: str | None = None
    """Where it is driven from."""
    here: bool = True
    """Its record is in this repository."""
    created: str | None = None
    started: str | None = None
    """When its pod was rented."""
    ended: str | None = None
    duration: float | None = None
    """From its create to its end, or to now."""
    hours: float | None = None
    """Of its lease."""
    learning_rate: float | None = None
    eta: float | None = None
    estimate: float | None = None
    """What it was to cost at most."""
    git_commit: str | None = None
    as_of: str | None = None
    """When this was true, of a run that is driven elsewhere and is not over."""


@dataclass(frozen=True, slots=True)
class RunListing:
    """The runs that were asked for, oldest first; ``more`` older ones fit, too, and are beyond the limit."""

    runs: Sequence[ListedRun]
    more: int = 0
    all: bool = True
    """Nothing but a number was asked for: where there is none, there are no runs."""


def asked_for(
    stack: str | None, recipe: str | None, user: str | None, state: str | None, since: str | None, limit: str | int | None,
) -> RunFilter:  # fmt: skip
    """Return the filter that a command line says; raises UserError for a state or a time that is none."""
    if state is not None and state not in STATES:
        raise UserError(f"--state {state}: there is no such state", hint=f"States: {', '.join(STATES)}.")
    return RunFilter(stack=stack, recipe=recipe, user=user, state=state, since=moment_of(since), limit=_count(limit))


def list_runs(context: CommandContext, asked: RunFilter = EVERY_RUN) -> RunListing:
    """Return the runs that are asked for: of this repository, and of all machines that share its ledger or a bucket.

    A ledger that cannot be used is said, and the records here are read without it.
    """
    from trainyard.ledger.ledger import Ledger

    try:
        ledger = context.ledger()
        pull_shared(context, ledger)
        fill_in(context)
        return list_known(context, ledger, asked)
    except (OSError, TrainyardError) as error:
        context.ui.warn(f"only the runs whose records are here: {in_short(error)}")
    with tempfile.TemporaryDirectory(prefix="trainyard-") as folder:
        return list_known(context, Ledger(Path(folder) / "ledger.db"), asked)


def list_known(context: CommandContext, ledger: Ledger, asked: RunFilter = EVERY_RUN) -> RunListing:
    """Return the runs that are asked for as far as records here and the ledger know them: no bucket is asked.

    Raises what the ledger raises when it cannot be used.
    """
    unreadable = [run for run in take_in(ledger, context.places.runs) if _fits(run, asked)]
    rows = ledger.runs(asked)
    damaged = {run.id for run in unreadable}
    listed = [(row.created, _listed(context, row)) for row in rows if row.id not in damaged]
    listed += [(run.changed, _of_unreadable(run)) for run in unreadable]
    runs = [run for _, run in sorted(listed, key=lambda pair: pair[0])]
    hidden = 0 if asked.limit is None else max(0, len(runs) - asked.limit)
    older = ledger.count(asked) - len(rows) if len(rows) == asked.limit else 0
    return RunListing(_with_newest(ledger, _without_results(ledger, runs[hidden:])), hidden + older, asked == RunFilter(limit=asked.limit))


def known_run(context: CommandContext, ledger: Ledger, run: RunId) -> ListedRun | None:
    """Return one attempt as the list has it, without a look at any other; None where nobody here knows it."""
    listed = [_of_unreadable(each) for each in take_in(ledger, context.places.runs, run)]
    listed = listed or [_listed(context, row) for row in sorted(ledger.rows_of([run]), key=lambda row: row.created)]
    return next(iter(_with_newest(ledger, _without_results(ledger, listed))), None)


def _without_results(ledger: Ledger, runs: Sequence[ListedRun]) -> list[ListedRun]:
    """Mark the attempts whose result was deleted from its bucket."""
    stored = [RunId(run.user, run.label, run.attempt) for run in runs if run.s3_url]
    deleted = ledger.runs_with(RESULT_DELETED, stored) if stored else set()
    return [replace(run, result_deleted=RunId(run.user, run.label, run.attempt) in deleted) for run in runs]


def _with_newest(ledger: Ledger, runs: Sequence[ListedRun]) -> list[ListedRun]:
    """Mark the attempts that are not what their run's name alone means: another one may be newer and not listed."""
    last = dict(ledger.newest_attempts({(run.user, run.label) for run in runs}))
    for run in runs:
        last[run.user, run.label] = max(run.attempt, last.get((run.user, run.label), 0))
    return [run if run.attempt == last[run.user, run.label] else replace(run, newest=False) for run in runs]


def _listed(context: CommandContext, row: RunRow) -> ListedRun:
    folder = RunFolder(row.id.folder(context.places.runs))
    here = (folder.path / "run.json").is_file()
    if here and not row.over:
        row = _as_it_is(row, folder)
    until = row.ended or (row.changed if row.over or not here else time.time())
    return ListedRun(
        run=str(row.id), attempt=row.attempt, stack=row.stack, recipe=row.recipe, state=row.state, steps_done=row.steps_done,
        steps_planned=row.steps_planned, loss=row.loss, cost=row.cost, s3_url=row.s3_url, local_path=row.local_path, owed=row.owed,
        over=row.over, error=row.error, delivery=_delivery(folder, row.id) if here else None, user=row.user, label=row.label,
        cloud=row.cloud or None, machine=row.machine, here=here, created=format_time(row.created), started=format_time(row.started),
        ended=format_time(row.ended), duration=round(max(0.0, until - row.created), 3), hours=row.hours,
        learning_rate=row.learning_rate, eta=row.eta, estimate=row.estimate, git_commit=row.git_commit,
        as_of=None if here or row.over else format_time(row.changed),
    )  # fmt: skip


def _as_it_is(row: RunRow, folder: RunFolder) -> RunRow:
    """Return the row of a run that goes on with its figures of this moment."""
    try:
        return replace(row_of(folder.load(), folder), estimate=row.estimate, machine=row.machine)
    except UserError:
        return row


def _of_unreadable(run: UnreadableRun) -> ListedRun:
    return ListedRun(
        run=str(run.id), attempt=run.id.attempt, state=UNREADABLE, error=run.why, user=run.id.user, label=run.id.label
    )  # fmt: skip


def _fits(run: UnreadableRun, asked: RunFilter) -> bool:
    """Tell whether a run of which only the name is known is among those that are asked for."""
    named = asked.user in (None, run.id.user) and asked.state in (None, "unreadable")
    return named and asked.stack is None and asked.recipe is None and run.changed >= (asked.since or 0.0)


def _count(text: str | int | None) -> int | None:
    """Return how many runs a command line asks for, None for all."""
    if text is None:
        return None
    if not _COUNT.fullmatch(str(text)):
        raise UserError(f"--limit {text}: it is no number of runs", hint="Write a whole number; 0 means all.")
    return int(text) or None


def moment_of(text: str | None, option: str = "--since", *, ahead: bool = False) -> float | None:
    """Return the moment (epoch seconds) that ``2h``, ``7d`` (ago, or ``ahead``) or a date means, None for none."""
    if text is None:
        return None
    if span := _AGO.fullmatch(text.strip()):
        return time.time() + float(span[1]) * _SECONDS[span[2]] * (1 if ahead else -1)
    moment = parse_iso(text.strip())
    if moment is None:
        how = "in how long" if ahead else "how long ago"
        raise UserError(f"{option} {text}: it is no time", hint=f"Write {how} (30m, 12h, 7d, 2w) or a date (2026-11-29, UTC).")
    return moment.timestamp()


def _delivery(folder: RunFolder, run: RunId) -> str | None:
    state = read_state(folder)
    return line_of(f"{run}/{run.attempt}", state, under_way=is_under_way(folder)) if state else None
