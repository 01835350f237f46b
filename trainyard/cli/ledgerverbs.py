"""The verbs about what is written down of runs: the list, removing, copies of the ledger. Parsing only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb


@task(
    help=help_of(
        "json",
        stack="only those of this stack",
        recipe="only those of this recipe",
        user="only this user's",
        state="only those in this state: live, over, succeeded, failed, cancelled, stopped, started, ...",
        since="only those that began since then: 30m, 12h, 7d, 2w ago, or a date (2026-11-29, UTC)",
        limit="how many at most, the newest (default: 100, with --json all; 0 means all)",
    )
)
@verb
def runs(
    c: Context, stack: str | None = None, recipe: str | None = None, user: str | None = None, state: str | None = None,
    since: str | None = None, limit: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """List runs, newest last: of this repository, and of all machines that share its ledger or a bucket."""
    from trainyard.runs.verbs.listing import SHOWN, asked_for, list_runs

    work = context(as_json=json)
    listing = list_runs(work, asked_for(stack, recipe, user, state, since, limit if limit is not None or json else SHOWN))
    if json:
        show_json([asdict(run) for run in listing.runs])
    else:
        from trainyard.runs.verbs.runtable import lines

        work.ui.say("\n".join(lines(listing, work.ui.console.width)))
    return 0


@task(
    help=help_of(
        "json",
        since="only runs that began since then: 30m, 12h, 7d, 2w ago, or a date (2026-11-29, UTC)",
        by="stage (default), stack, user or recipe",
    )
)
@verb
def costs(c: Context, since: str | None = None, by: str = "stage", json: bool = False) -> int:
    """Show what runs have cost, as the ledger has it, and what of it was not training."""
    from trainyard.runs.verbs.costs import costs as report_of
    from trainyard.runs.verbs.costs import lines

    work = context(as_json=json)
    report = report_of(work, since, by)
    if json:
        show_json(asdict(report))
    else:
        work.ui.say("\n".join(lines(report)))
    return 0


@task(
    positional=["run"],
    help=help_of(
        run="label, user/label (the newest attempt) or user/label/attempt; last: the run that was begun last here",
        result="its result, too, from its bucket: asks for the name to be typed",
        yes="with --result: do not ask for the name",
    ),
)
@verb
def remove(c: Context, run: str, result: bool = False, yes: bool = False) -> int:
    """Remove the record of a run that has ended; its result stays, unless --result is said."""
    from trainyard.runs.verbs.remove import remove as forget

    return forget(context(), run, result=result, yes=yes)


@task(positional=["file"], help=help_of(file="file to write; it must not be there yet"))
@verb
def ledger_backup(c: Context, file: str) -> int:
    """Write the whole ledger into one file, also one in Postgres; runs go on meanwhile."""
    from trainyard.ledger.copies import backup

    work = context()
    counts = backup(work.ledger().database, Path(file))
    work.ui.say(f"written: {file} ({_counted(counts)})")
    return 0


@task(positional=["file"], help=help_of(file="what `invoke ledger.backup` wrote, or a ledger.db"))
@verb
def ledger_restore(c: Context, file: str) -> int:
    """Take into the ledger what a backup holds and it does not; what is in the ledger stays."""
    from trainyard.ledger.copies import restore

    work = context()
    counts = restore(work.ledger().database, Path(file))
    work.ui.say(f"taken in from {file}: {_counted(counts)}")
    return 0


@task
@verb
def ledger_rebuild(c: Context) -> int:
    """Make the ledger anew from the events in the stacks' buckets and the records here; what it holds already stays."""
    from trainyard.runs.verbs.sharing import rebuild

    work = context()
    rebuilt = rebuild(work)
    where = ", ".join(rebuilt.buckets) or "no bucket"
    work.ui.say(f"taken in: {rebuilt.events:,} events from {where}, {rebuilt.records:,} records from here")
    work.ui.say("keys and the audit log are in no event: a backup has them (invoke ledger.restore FILE)")
    return 0


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
