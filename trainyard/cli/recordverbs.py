"""The verbs about what runs were: show one, run it again, hold runs against each other. Parsing only."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, like_setting, show_json, task, verb, words_behind
from trainyard.cli.driving import KEY, drive_prepared, keyed
from trainyard.errors import UserError

_RUN = "label, user/label, user/label/attempt, or a key of the bucket; last: the run that was begun last"
_STACK = "stack whose bucket is asked for what is not known here (default: local)"


@task(positional=["run"], help=help_of("json", run=_RUN, stack=_STACK))
@verb
def show(c: Context, run: str, stack: str | None = None, json: bool = False) -> int:
    """Show one run on a page: time and dollars by stage, values, data, code, versions, events, result, and what to do next."""
    from trainyard.runs.verbs.show import lines
    from trainyard.runs.verbs.show import show as look

    work = context(as_json=json)
    page = look(work, run, stack)
    if json:
        show_json(asdict(page))
    else:
        work.ui.say("\n".join(lines(page)))
    return 0


@task(
    positional=["run"],
    iterable=["set"],
    help=help_of(
        "set", "name", "json",
        run=_RUN,
        stack="stack to run it on (default: the one it ran on); its bucket is asked for a run that is not known here",
        hours="length of the lease (default: as before)",
        budget="dollars after which the training is stopped and saved (default: as before)",
        key=KEY,
        yes="send the files to the stack's cloud without being asked",
    ),
)  # fmt: skip
@verb
def rerun(
    c: Context, run: str, stack: str | None = None, set: Any = None, name: str | None = None, hours: float | None = None,
    budget: float | None = None, yes: bool = False, key: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Run an earlier run again, as a new one: its recipe, values, data and code, as they were (another command: -- COMMAND)."""
    from trainyard.runs.verbs.rerun import RerunRequest, prepare

    request = RerunRequest(
        run, stack, tuple(set or ()), name, like_setting("hours", hours), like_setting("budget", budget), yes, words_behind()
    )  # fmt: skip
    work = context(as_json=json)
    start = keyed(work, key, "rerun", request)
    return drive_prepared(work, json, lambda start: prepare(work, replace(request, key=start)), start=start)


@task(positional=["run", "other"], help=help_of("json", run=_RUN, other="the run to hold against it", stack=_STACK))
@verb
def diff(c: Context, run: str, other: str, stack: str | None = None, json: bool = False) -> int:
    """Show what differs between two runs: values, data, code, versions, settings, result, loss, cost."""
    from trainyard.runs.verbs.diff import diff as hold
    from trainyard.runs.verbs.diff import lines

    work = context(as_json=json)
    seen = hold(work, run, other, stack)
    if json:
        show_json(asdict(seen))
    else:
        work.ui.say("\n".join(lines(seen)))
    return 0


@task(
    positional=["run"],
    iterable=["figure"],
    help=help_of(
        "json", run=_RUN, stack=_STACK, png="file to draw the curves into",
        figure="figure of metrics.jsonl (may be repeated; default: the losses, the learning rate, what is told of GPUs)",
    ),
)  # fmt: skip
@verb
def plot(
    c: Context, run: str, figure: Any = None, stack: str | None = None, png: str | None = None, json: bool = False
) -> int:  # fmt: skip
    """Show the curves of one run, its losses, learning rate and GPUs, here or as a PNG; while it trains, too."""
    from trainyard.runs.records.curves import picture
    from trainyard.runs.verbs.plots import lines, panels

    work = context(as_json=json)
    shown = panels(work, run, stack, tuple(figure or ()))
    if png:
        picture(shown, Path(png))
        work.ui.say(f"the curves are in {png}")
    if json:
        show_json({each.label: each.curve for panel in shown for each in panel.curves})
    elif not png:
        work.ui.say("\n".join(lines(shown, work.ui.console.width)))
    return 0


@task(
    positional=[], iterable=["run"], help=help_of("json", run=f"{_RUN} (may be repeated)", stack=_STACK, png="file to draw the curves into")
)
@verb
def compare(c: Context, run: Any = None, stack: str | None = None, png: str | None = None, json: bool = False) -> int:
    """Compare runs: a table, what their values differ in, and their loss curves here or as a PNG (invoke compare RUN RUN ...)."""
    from trainyard.runs.verbs.compare import compare as hold
    from trainyard.runs.verbs.compare import draw, lines

    if not run:
        raise UserError("say which runs: invoke compare RUN RUN ...", hint="See what there is: invoke runs")
    work = context(as_json=json)
    rows = hold(work, run, stack)
    if png:
        draw(rows, Path(png))
        work.ui.say(f"the curves are in {png}")
    if json:
        show_json([asdict(row) for row in rows])
    elif not png:
        work.ui.say("\n".join(lines(rows, work.ui.console.width)))
    return 0
