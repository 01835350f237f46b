"""The verbs about notices. Parsing only."""

from __future__ import annotations

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb


@task(help=help_of("stack", "json"))
@verb
def notify_test(c: Context, stack: str = "local", json: bool = False) -> int:
    """Send a test to each address that the stack's `notify` names, and say which of them has taken it."""
    from trainyard.runs.notices.announce import try_out

    work = context(as_json=json)
    results = try_out(work, stack)
    if json:
        show_json({name: {"sent": why is None, "why": why} for name, why in results.items()})
    for name, why in results.items():
        (work.ui.say if why is None else work.ui.fail)(f"env:{name}: {why or 'sent'}")
    if not results:
        work.ui.say(f"stack '{stack}' names nobody: trainyard:notify in Pulumi.{stack}.yaml ([env:NAME])")
    return 1 if any(results.values()) else 0
