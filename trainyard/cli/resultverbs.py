"""The verbs about what a bucket holds: list, show, verify, remove. Parsing only."""

from __future__ import annotations

from dataclasses import asdict

from invoke.context import Context

from trainyard.cli.common import context, help_of, only_stack, show_json, task, verb

_RESULT = "label, user/label, user/label/attempt, any key of it or s3:// URL; last: the run that was begun last"
_STACK = "stack whose bucket holds it (default: local)"


@task(help=help_of("json", stack="stack whose bucket is looked into (default: local)", user="only this user's"))
@verb
def results_list(c: Context, stack: str = "local", user: str | None = None, json: bool = False) -> int:
    """Show what the bucket holds of all runs, whoever started them and wherever: kind, size, recipe."""
    from trainyard.runs.verbs.results import list_rows, table

    work = context(as_json=json)
    store, rows = list_rows(work, stack, user)
    if json:
        show_json([asdict(row) for row in rows])
    else:
        work.ui.say("\n".join(table(store, rows, user)))
    return 0


@task(positional=["result"], help=help_of("json", result=_RESULT, stack=_STACK))
@verb
def results_show(c: Context, result: str, stack: str = "local", json: bool = False) -> int:
    """Show one result: its files with sizes and sha256, what was left out, its logs, whose it is, the commands that fetch it."""
    from trainyard.runs.verbs.results import show

    document = show(context(as_json=json), stack, result, as_json=json)
    if document is not None:
        show_json(document)
    return 0


@task(
    positional=["result"],
    help=help_of("json", result=_RESULT, stack=_STACK, deep="read all bytes and hash them; else the store's own checksums are asked"),
)
@verb
def results_verify(c: Context, result: str, stack: str = "local", deep: bool = False, json: bool = False) -> int:
    """Hold a result against its manifest: what is missing, changed or more; exit code 7 when it is not whole."""
    from trainyard.runs.verbs.results import check

    code, document = check(context(as_json=json), stack, result, deep=deep, as_json=json)
    if document is not None:
        show_json(document)
    return code


@task(
    help=help_of(
        "json",
        stack="stack whose bucket is swept (default: local)",
        all_stacks="every stack of this repository that has a bucket",
        dry_run="show what would go, remove nothing",
        yes="remove without being asked (from a schedule)",
    )
)
@verb
def gc(c: Context, stack: str | None = None, all_stacks: bool = False, dry_run: bool = False, yes: bool = False, json: bool = False) -> int:
    """Remove what the bucket's rules say where the store carries none out, and what no run can use any more; never a result."""
    from trainyard.runs.verbs.gc import collect

    one = only_stack(stack, all_stacks=all_stacks)
    code, report = collect(context(as_json=json), one, dry_run=dry_run, yes=yes)
    if json:
        show_json(asdict(report))
    return code


@task(
    positional=["run"],
    help=help_of(
        run="label, user/label, user/label/attempt or s3:// URL; last: the run that was begun last",
        to="local (out/downloads/...), local:DIR or hub:OWNER/REPO (default: what its run was told)",
        stack="stack whose bucket holds it (default: that of the run where it is known here, else local)",
    ),
)
@verb
def deliver(c: Context, run: str, to: str | None = None, stack: str | None = None) -> int:
    """Bring a result to a folder here or to the Hugging Face Hub, every file proven there; goes on where it was cut off."""
    from trainyard.runs.after.deliver import deliver as bring

    return bring(context(), run, to, stack)


@task(
    positional=["name"],
    help=help_of(
        name="user/label (all attempts), user/label/attempt, checkpoints/... or logs/... of an attempt, data/...",
        stack=_STACK,
        dry_run="show what would go and its size",
        yes="do not ask for the name to be typed",
    ),
)
@verb
def store_delete(c: Context, name: str, stack: str = "local", dry_run: bool = False, yes: bool = False) -> int:
    """Delete a result, all attempts of a run, or data from the bucket, every version of it: the only way to remove results."""
    from trainyard.runs.verbs.delete import delete

    return delete(context(), stack, name, dry_run=dry_run, yes=yes)
