"""The verbs of the queue: submit, work, look, hold, approve. Parsing only."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb
from trainyard.cli.driving import keyed
from trainyard.cli.runverbs import OF_A_RUN, asked_run
from trainyard.cli.sweepoptions import OF_A_SWEEP, sweep_of, sweep_submitted
from trainyard.errors import UserError

if TYPE_CHECKING:
    from trainyard.ledger.queue import QueueEntry
    from trainyard.runs.context import CommandContext
    from trainyard.runs.verbs.train import TrainRequest

_RUN = "label or user/label of a run that waits"


@task(
    positional=[],
    iterable=["set", "after", "sweep"],
    help={
        **OF_A_SWEEP,
        **{name: text for name, text in OF_A_RUN.items() if name != "detach"},
        **help_of(
            file="a run file, like runs/first.yaml, instead of the options that say what is run",
            priority="from -10 to 10 (default: 0); an hour of waiting is worth one",
            after="a run (label of one's own, or user/label) that must have succeeded before; may be repeated",
            not_before="not before this moment: 2h, 30m, 1d from now, or a date (2026-11-29T22:00Z)",
            hold="keep it until `invoke queue.release`",
            dry_run="say what would be submitted and whether it would begin now; nothing is written",
        ),
    },
)
@verb
def submit(
    c: Context, file: str | None = None, stack: str | None = None, recipe: str | None = None, data: str | None = None,
    config: str | None = None, set: Any = None, name: str | None = None, hours: float | None = None, budget: float | None = None,
    on_bad_row: str | None = None, yes: bool = False, resume: int | None = None, deliver: str | None = None, priority: int = 0,
    after: Any = None, not_before: str | None = None, hold: bool = False, dry_run: bool = False, key: str | None = None,
    sweep: Any = None, sampler: str | None = None, trials: str | None = None, seed: str | None = None, objective: str | None = None,
    prune: bool = False, parallel: str | None = None, max_trials: str | None = None, from_: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Put a run into the queue (options as for train): what is here now is what a worker begins when it is its turn."""
    from trainyard.runs.queue import submit as queue
    from trainyard.runs.queue.keyed import entry_of_key
    from trainyard.runs.verbs.keyed import SUBMIT
    from trainyard.runs.verbs.listing import moment_of

    work = context(as_json=json)
    request = asked_run(stack or "local", recipe, data, config, set, name, hours, budget, on_bad_row, yes, resume, deliver, from_)
    before: tuple[str, ...] = ()
    if file:
        request, before = _of_file(
            work, file, request, [stack, recipe, data, config, set, hours, budget, on_bad_row, resume, deliver, from_]
        )  # fmt: skip
    moment, runs = moment_of(not_before, "--not-before", ahead=True), (*(after or ()), *before)
    if swept := sweep_of(request, sweep, sampler, trials, seed, objective, parallel, max_trials, prune=prune, key=key):
        swept = replace(swept, priority=priority, after=runs, not_before=moment)
        return sweep_submitted(work, swept, hold=hold, dry_run=dry_run, as_json=json)
    said = {"--priority": priority, "--after": runs, "--not-before": not_before, "--hold": hold}
    start = keyed(work, key, SUBMIT, request, said)
    if dry_run:
        if start is not None and (known := entry_of_key(work, start)) is not None:
            return _tell_submitted(work, known, as_json=json)
        drafted = queue.draft(work, request, priority=priority, after=runs, not_before=moment, hold=hold)
        return _show(work, [drafted.entry], plan=True, as_json=json)
    entry = queue.submit(work, request, priority=priority, after=runs, not_before=moment, hold=hold, key=start)
    return _tell_submitted(work, entry, as_json=json)


@task(help=help_of("json", plan="what the next worker would begin, and why not the rest"))
@verb
def queue(c: Context, plan: bool = False, json: bool = False) -> int:
    """Show what is queued, in its order, and why it waits."""
    return _show(context(as_json=json), [], plan=plan, as_json=json)


@task(positional=["run"], help=help_of(run=_RUN))
@verb
def queue_hold(c: Context, run: str) -> int:
    """Keep a queued run from beginning."""
    from trainyard.runs.queue.changes import hold

    work = context()
    work.ui.say(f"held       {hold(work, run).run}; it goes on with: invoke queue.release {run}")
    return 0


@task(positional=["run"], help=help_of(run=_RUN))
@verb
def queue_release(c: Context, run: str) -> int:
    """Let a run that is held begin when it is its turn; one that waits for its next try is tried at once."""
    from trainyard.runs.queue.changes import release

    work = context()
    entry = release(work, run)
    more = f"; it waits for approval: invoke approve {entry.run}" if entry.approval == "needed" else ""
    work.ui.say(f"released   {entry.run}{more}")
    return 0


@task(positional=["run", "priority"], help=help_of(run=_RUN, priority="from -10 to 10"))
@verb
def queue_prefer(c: Context, run: str, priority: str) -> int:
    """Give a queued run another priority."""
    from trainyard.runs.queue.changes import prefer
    from trainyard.runs.queue.priority import priority_of

    work = context()
    entry = prefer(work, run, priority_of(priority))
    work.ui.say(f"priority   {entry.run}: {entry.priority}")
    return 0


@task(positional=["run"], help=help_of(run=_RUN))
@verb
def approve(c: Context, run: str) -> int:
    """Let a queued run begin that waits for approval; who approved is written down."""
    from trainyard.runs.queue.changes import approve as agree

    work = context()
    entry = agree(work, run)
    work.ui.say(f"approved   {entry.run}, by {entry.decided_by}")
    return 0


@task(positional=["run"], help=help_of(run=_RUN))
@verb
def reject(c: Context, run: str) -> int:
    """End a queued run that is not to run; who rejected it is written down."""
    from trainyard.runs.queue.changes import reject as refuse

    work = context()
    entry = refuse(work, run)
    work.ui.say(f"rejected   {entry.run}, by {entry.decided_by}")
    return 0


def _tell_submitted(work: CommandContext, entry: QueueEntry, *, as_json: bool) -> int:
    """Tell how an entry stands, which may be the one of a key that was said before; returns the exit code."""
    from trainyard.runs.queue.keyed import exit_status_of

    if as_json:
        show_json({"run": entry.run, **asdict(entry)})
    elif entry.state == "queued":
        waits = f"; a person has to approve it: {entry.approval_why}" if entry.approval == "needed" else ""
        waits += f"; held {entry.held}" if entry.held else ""
        where = f"the stack that is cheapest when it begins ({entry.stack} now)" if entry.auto else entry.stack
        first = [f"invoke approve {entry.run}"] if entry.approval == "needed" else []
        first += [f"invoke queue.release {entry.run}"] if entry.held else []
        work.ui.say(f"queued     {entry.run} on {where}{waits}\nlook       invoke queue\nbegin      {', '.join([*first, 'invoke worker'])}")
    elif entry.state == "begun":
        work.ui.say(f"begun      {entry.run} on {entry.stack}\nlook       invoke attach {entry.run}")
    else:
        work.ui.say(f"over       {entry.run} on {entry.stack}: {entry.outcome}\nlook       invoke show {entry.run}")
    return exit_status_of(entry)


def _show(work: CommandContext, more: list[Any], *, plan: bool, as_json: bool) -> int:
    from trainyard.ledger.queue import QueueRows
    from trainyard.runs.queue.look import look
    from trainyard.runs.queue.table import as_rows, lines, plan_lines

    now = time.time()
    places = look(work, QueueRows(work.ledger().database), now, more)
    if as_json:
        show_json(as_rows(places))
    else:
        work.ui.say("\n".join(plan_lines(places) if plan else lines(places, now)))
    return 0


def _of_file(work: CommandContext, file: str, asked: TrainRequest, options: list[object]) -> tuple[TrainRequest, tuple[str, ...]]:
    """Return what a run file asks for, with a person's --name and --yes, and the runs that it waits for.

    Raises UserError where options say what is run, too, and for what only gitops.sync does.
    """
    from trainyard.runs.gitops.runfile import read_run_file
    from trainyard.textfile import read_text

    if any(option not in (None, [], ()) for option in options):
        raise UserError(
            f"{file} says what is run, and options do, too",
            hint="With a run file: --name, --priority, --after, --not-before, --hold, --yes.",
        )
    try:
        read = read_run_file(read_text(Path(file)), file)
    except FileNotFoundError:
        raise UserError(f"there is no run file {file}", hint="Without --file the options say what is run, as for train.") from None
    root, name = work.places.root, asked.name or (read.name if "name" in read.where else None)
    request = replace(read.request(root, user="", label="", attempt=0, yes=asked.yes), name=name, user=None, attempt=None)
    return request, read.runs_before()
