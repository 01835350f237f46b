"""What a sync would do, and what it would cost: each file of HEAD against the runs that are known. Nothing is changed here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from trainyard.clock import REAL, Clock, format_time
from trainyard.errors import NotInResult, TrainyardError, UserError
from trainyard.recipes.since import NothingNew
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops.committed import CommittedRuns, committed_runs
from trainyard.runs.gitops.desired import desired_runs
from trainyard.runs.gitops.labels import label_in
from trainyard.runs.gitops.links import LinkedRuns, WantedRun
from trainyard.runs.gitops.runfile import RunFile
from trainyard.runs.gitops.standing import known_runs
from trainyard.runs.records.storagecost import StorageCost
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.known import KnownRun
from trainyard.runs.verbs.train import foresee

Action = Literal["start", "start again", "waits", "broken", "nothing new", "scheduled", "at work", "over", "cancel", "uncommitted"]
_AT_ONCE = 8
"""Runs that are priced at the same time."""
MARK = "<!-- trainyard gitops.plan -->"
"""Begins the plan as Markdown, so that a comment on a pull request is found again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One line of a plan. ``most``: dollars that it costs at most, None where nothing is started or nobody tells."""

    action: Action
    file: str
    """Empty for a run whose file is gone."""
    run: str
    stack: str = ""
    says: str = ""
    most: float | None = None
    problem: str = ""
    """Why it would be refused now, or is not known."""
    storage: StorageCost | None = None
    """What its result and data will cost in their bucket, beside ``most``; None: it has none, or nothing is started."""
    wrong: bool = False
    """That is a mistake in its file or its stack's settings, which no waiting mends."""


@dataclass(frozen=True, slots=True)
class GitopsPlan:
    """What HEAD wants, what is known, and what follows from both."""

    committed: CommittedRuns
    desired: tuple[WantedRun, ...]
    known: dict[tuple[str, str], KnownRun]
    now: float = 0.0
    """When it was looked (epoch seconds)."""

    def cancelled(self) -> list[KnownRun]:
        """Return the runs at work that no file wants any more; those of files with uncommitted changes are left alone."""
        return [known for known in self.known.values() if known.standing == "at work" and self.is_orphan(known)]

    def links(self, context: CommandContext) -> LinkedRuns:
        """Return what files wait for."""
        return LinkedRuns(context, self.desired, self.known)

    def is_orphan(self, known: KnownRun) -> bool:
        """Tell whether no file asks for a run of gitops any more.

        One whose file has uncommitted changes is none, and one of an earlier due time whose file still has a schedule comes to its end.
        """
        label = label_in(known.key.run)
        asked_for = any((one.user, one.label) == (known.key.user, known.key.run) for one in self.desired)
        spared = {one.file.name for one in self.desired if one.held or (label and label.due and one.schedule)}
        return not asked_for and label is not None and label.name not in spared


def look(context: CommandContext, clock: Clock = REAL) -> GitopsPlan:
    """Compare HEAD with what is known; raises UserError with all that is wrong in all files, StoreError where a bucket does not answer."""
    committed, now = committed_runs(context.places.root), clock.now()
    desired = desired_runs(context, committed, now)
    return GitopsPlan(committed, desired, known_runs(context, ((one.user, one.label) for one in desired)), now)


def rows(context: CommandContext, plan: GitopsPlan) -> list[PlannedRun]:
    """Return the plan line by line, with the estimate of each run that would start."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # each asks its cloud for offers, and its store for data
        planned = list(pool.map(lambda one: _row(context, plan, one), plan.desired))
    desired = {one.file.path for one in plan.desired}
    planned += [
        PlannedRun(action="uncommitted", file=path, run="", says="not in HEAD: commit it, then it runs")
        for path in plan.committed.uncommitted
        if path not in desired
    ]
    for known in plan.cancelled():
        name = label.name if (label := label_in(known.key.run)) else None
        successor = next((one.label for one in plan.desired if one.file.name == name), None)
        says = f"replaced by {successor}" if successor else "its file is gone"
        stack = known.record.environment if known.record else ""
        planned.append(PlannedRun(action="cancel", file="", run=known.run, stack=stack, says=f"{says}; it is {known.says}"))
    return planned


def _row(context: CommandContext, plan: GitopsPlan, one: WantedRun) -> PlannedRun:
    row = _state(context, plan, one)
    if one.schedule is None:
        return row
    following = f"next due {format_time(one.schedule.next(plan.now)) or 'never'}"
    return replace(row, says="; ".join(filter(None, (row.says, following))))


def _state(context: CommandContext, plan: GitopsPlan, one: WantedRun) -> PlannedRun:
    known = plan.known.get((one.user, one.label))
    row = PlannedRun(action="start", file=one.file.path, run=one.run if one.is_due else "", stack=one.file.stack)
    if not one.is_due and not one.held:
        return replace(row, action="scheduled")
    if one.held:
        return replace(row, action="uncommitted", says="it has changes that are not committed: it is left as it is")
    if known is not None and known.standing != "claimed":
        return replace(row, action="at work" if known.standing == "at work" else "over", says=known.says)
    row = replace(row, action="start again", says=known.says) if known is not None else row
    try:
        links = plan.links(context)
        ready = links.readiness(one)
        if ready.state == "broken":
            return replace(row, action="broken", says="\n".join((str(ready), ready.way_out())))
        if ready.state == "waits":
            row = replace(row, action="waits", says=str(ready))
        return _priced(context, row, links.with_inputs(one) if ready.state == "ready" else one.file.without_inputs(), one)
    except NothingNew as nothing:
        return replace(row, action="nothing new", says=nothing.message)
    except NotInResult as never:
        return replace(row, action="broken", says=str(never))
    except TrainyardError as error:
        return replace(row, problem=str(error), wrong=isinstance(error, UserError))


def _priced(context: CommandContext, row: PlannedRun, file: RunFile | None, one: WantedRun) -> PlannedRun:
    """Add what a run costs at most; ``file`` None: what goes into it is not there yet, so that nothing can be said of it."""
    if file is None:
        return row
    quiet = CommandContext(context.places, context.env, Ui(stream=io.StringIO()))
    priced = foresee(quiet, file.request(context.places.root, user=one.user, label=one.label, attempt=1, yes=True))
    expected = priced.estimate
    kept = expected.storage.text() if expected.storage else ""
    says = "; ".join(filter(None, (row.says, expected.text())))
    return replace(row, most=expected.most, storage=expected.storage, says="\n".join(filter(None, (says, kept and f"storage: {kept}"))))


def lines(planned: Sequence[PlannedRun]) -> list[str]:
    """Return a plan as a person reads it at a terminal."""
    if not planned:
        return ["nothing to do: there is no file in runs/, and no run of gitops at work"]
    text: list[str] = []
    for row in planned:
        place = ", ".join(filter(None, (row.file if row.run else "", f"stack {row.stack}" if row.file and row.stack else "")))
        text.append(f"{row.action:<11} {row.run or row.file}" + (f"  ({place})" if place else ""))
        text += [f"            {line}" for line in (*row.says.splitlines(), *row.problem.splitlines())]
    return [*text, summary(planned)]


def summary(planned: Sequence[PlannedRun]) -> str:
    """Return the closing line: how many of each, and what is started costs at most."""
    actions = [row.action for row in planned]
    counts = ", ".join(f"{actions.count(action)} {action}" for action in dict.fromkeys(actions))
    starts = [row for row in planned if row.action in ("start", "start again")]
    unknown = sum(row.most is None for row in starts)
    most = sum(row.most or 0.0 for row in starts)
    cost = f"; what is started costs at most ${most:.2f}" if starts else ""
    later = sum(row.most or 0.0 for row in planned if row.action == "waits")
    cost += f"; what waits at most ${later:.2f}" if later else ""
    return f"{counts}{cost}{f', and {unknown} whose estimate is not known' if unknown else ''}"


def markdown(planned: Sequence[PlannedRun]) -> str:
    """Return a plan as a comment of a pull request."""
    parts = [MARK, "### Runs", ""]
    if not planned:
        return "\n".join([*parts, "No file in `runs/`, and no run at work.", ""])
    parts += ["| | file | run | stack | costs at most | |", "|---|---|---|---|---|---|"]
    for row in planned:
        most = "" if row.most is None else f"${row.most:.2f}"
        cells = (f"**{row.action}**", _code(row.file), _code(row.run), row.stack, most, "<br>".join(filter(None, (row.says, row.problem))))
        parts.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join([*parts, "", f"{summary(planned)}.", ""])


def markdown_of(error: UserError) -> str:
    """Return what is wrong in the run files as the same comment."""
    fence = "`" * 4
    return "\n".join([MARK, "### Runs", "", "The run files cannot be read; nothing would be done.", "", fence, str(error), fence, ""])


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")
