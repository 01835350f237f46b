"""The verbs about model caches: network volumes of ours. Parsing only."""

from __future__ import annotations

from dataclasses import asdict

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb
from trainyard.reading import Shape, read

_AGE = Shape(kind="text", pattern=r"[1-9][0-9]{0,3}[dh]", looks_like="30d")


@task(help=help_of("json", stack="the caches of one stack (default: all)"))
@verb
def cache(c: Context, stack: str | None = None, json: bool = False) -> int:
    """Show the model caches: where, how large, dollars a month, who used them last, which pods mount them."""
    from trainyard.runs.verbs.caches import cache_lines, survey

    work = context(as_json=json)
    code, rows = survey(work, stack)
    if json:
        show_json([asdict(row) for row in rows])
    else:
        work.ui.say("\n".join(cache_lines(rows)))
    return code


@task(
    help=help_of(stack="the caches of one stack (default: all)", older_than="only those not used for so long, like 30d", yes="ask nothing")
)
@verb
def cache_clean(c: Context, stack: str | None = None, older_than: str | None = None, yes: bool = False) -> int:
    """Delete the model caches that no pod mounts and no live run uses, and prove them gone."""
    from trainyard.runs.verbs.caches import clean

    age = None if older_than is None else str(read(_AGE, older_than, "--older-than"))
    hours = None if age is None else float(age[:-1]) * (24 if age.endswith("d") else 1)
    return clean(context(), stack, hours, yes=yes)
