"""The verb that shows sweeps. Parsing only."""

from __future__ import annotations

from dataclasses import asdict

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb
from trainyard.cli.sweepoptions import show_sweep


@task(
    positional=[],
    help=help_of("json", name="the sweep's name (invoke sweep NAME); without one: which there are", png="file to draw the curves into"),
)
@verb
def sweep(c: Context, name: str | None = None, png: str | None = None, json: bool = False) -> int:
    """Show a sweep: its trials with values, figures and costs, their curves, the best one and how it is fetched."""
    from trainyard.runs.sweeps.report import overview
    from trainyard.runs.sweeps.standing import all_reports

    work = context(as_json=json)
    if name:
        show_sweep(work, name, json, png)
        return 0
    reports = all_reports(work)
    if json:
        show_json([asdict(one) for one in reports])
    else:
        work.ui.say("\n".join(overview(reports)))
    return 0
