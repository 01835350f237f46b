"""The verbs by which git starts runs: plan, sync, watch. Parsing only."""

from __future__ import annotations

from dataclasses import asdict

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb
from trainyard.phrasing import as_typed


@task(help=help_of("json", markdown="as Markdown, for a comment on a pull request (wrong run files are told in it, too)"))
@verb
def gitops_plan(c: Context, markdown: bool = False, json: bool = False) -> int:
    """Show what gitops.sync would start, leave, cancel, and what it would cost: runs/*.yaml of HEAD against what runs."""
    from trainyard.errors import UserError
    from trainyard.runs.gitops import plan

    work = context(as_json=json or markdown)
    try:
        planned = plan.rows(work, plan.look(work))
    except UserError as error:
        if markdown:
            print(as_typed(plan.markdown_of(error)))
        raise
    if json:
        show_json([asdict(row) for row in planned])
    elif markdown:
        print(as_typed(plan.markdown(planned)))
    else:
        work.ui.say("\n".join(plan.lines(planned)))
    return UserError.exit_code if any(row.wrong for row in planned) else 0


@task(help=help_of("json", yes="send files of this repository to the stack's cloud without being asked"))
@verb
def gitops_sync(c: Context, yes: bool = False, json: bool = False) -> int:
    """Make what runs what HEAD wants: one detached run per commit and file of runs/; cancel what was removed; finish the rest."""
    from trainyard.runs.gitops import sync

    work = context(as_json=json)
    report = sync.sync(work, yes=yes)
    if json:
        show_json(asdict(report))
    else:
        work.ui.say("\n".join(sync.lines(report)))
    return report.exit_status


@task(
    help=help_of(
        every="seconds between two rounds (default: 60)",
        yes="send files of this repository to the stack's cloud without being asked",
        unit="print a systemd unit that does it, and nothing else",
    )
)
@verb
def gitops_watch(c: Context, every: float = 60.0, yes: bool = False, unit: bool = False) -> int:
    """Fetch, fast-forward this clone and sync, again and again: git as the trigger where there is no CI."""
    from trainyard.errors import UserError
    from trainyard.runs.gitops import watch

    if not every >= 1:
        raise UserError(f"--every must be at least 1 second, not {every:g}")
    work = context()
    if unit:
        print(as_typed(watch.unit(work.places.root, work.env, every=every, yes=yes)), end="")
        return 0
    return watch.watch(work, every=every, yes=yes)
