"""The verbs about a stack and its account. Parsing only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, only_stack, show_json, task, verb

if TYPE_CHECKING:
    from trainyard.stacks.model import Operation


def _engine_verb(name: Operation, text: str) -> Any:
    @task(name=name, help=help_of("stack", yes="for scripts: nothing is asked anyway", json="engine events as JSON lines"))
    @verb
    def operate(c: Context, stack: str = "local", yes: bool = False, json: bool = False) -> int:
        from trainyard.runs.verbs.environments import operate as run

        return run(context(as_json=json), stack, name, yes=yes, as_json=json)

    operate.__doc__ = text
    return operate


up = _engine_verb("up", "Make what a stack's settings declare; costs nothing until a pod is asked for.")
preview = _engine_verb("preview", "Show what `up` would do.")
refresh = _engine_verb("refresh", "Read the real world into the state.")


@task(
    help=help_of(
        "stack", yes="end live runs without being asked; nothing else is asked", json="engine events as JSON lines",
        cache="delete the stack's model caches, too",
    ),
)  # fmt: skip
@verb
def destroy(c: Context, stack: str = "local", yes: bool = False, json: bool = False, cache: bool = False) -> int:
    """End what `up` made, and every run of the stack; the bucket and its results stay, and model caches without --cache."""
    from trainyard.runs.verbs.environments import operate as run

    return run(context(as_json=json), stack, "destroy", yes=yes, as_json=json, cache=cache)


@task(help=help_of("stack", show_secrets="print secrets in clear"))
@verb
def outputs(c: Context, stack: str = "local", show_secrets: bool = False) -> int:
    """Print a stack's outputs as JSON."""
    from trainyard.runs.verbs.environments import shown_outputs

    show_json(shown_outputs(context(as_json=True), stack, show_secrets=show_secrets))
    return 0


@task
@verb
def env(c: Context) -> int:
    """Print the exports plain `pulumi` needs: eval "$(invoke env)"."""
    from trainyard.stacks.environ import export_lines

    work = context(as_json=True)
    print("\n".join(export_lines(work.places, work.env)))
    return 0


@task(positional=["pod"], help=help_of("stack", pod="id or name of a pod of ours"))
@verb
def end(c: Context, pod: str, stack: str = "local") -> int:
    """End one pod of ours now, whatever its lease says, and prove it gone."""
    from trainyard.runs.verbs.account import end_pod

    return end_pod(context(), stack, pod)


@task(help=help_of("stack", "json", dry_run="show, end nothing", all_stacks="every stack with credentials"))
@verb
def reap(c: Context, stack: str | None = None, dry_run: bool = False, all_stacks: bool = False, json: bool = False) -> int:
    """End every pod whose lease is over; needs only the API key."""
    from trainyard.runs.verbs.account import reap_stacks

    return reap_stacks(context(as_json=json), only_stack(stack, all_stacks=all_stacks), dry_run=dry_run, as_json=json)


@task(help=help_of("stack", "json"))
@verb
def audit(c: Context, stack: str = "local", json: bool = False) -> int:
    """Show everything of the account that costs money now, per hour and per month."""
    from trainyard.runs.verbs.account import audit as show

    return show(context(as_json=json), stack, as_json=json)
