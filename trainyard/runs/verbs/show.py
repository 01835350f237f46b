"""One run's page: what it is made of, what it did and cost, what came of it, and the commands that go on from here."""

from __future__ import annotations

import contextlib
import json
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.clock import format_time
from trainyard.clouds.local.hardware import REGION
from trainyard.errors import TrainyardError
from trainyard.pod.files import printable
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.runs.records import snapshot as snapshots
from trainyard.runs.records.measured import MEASURED
from trainyard.runs.records.mirror import events_in
from trainyard.runs.records.progress import duration, of_all
from trainyard.runs.records.runrows import state_of
from trainyard.runs.records.snapshot import Snapshot
from trainyard.runs.records.stores import store_of
from trainyard.runs.records.summary import RunSummary, summarize
from trainyard.runs.verbs.past import SeenAttempt, seen
from trainyard.settings import reader
from trainyard.sizes import human_size
from trainyard.storage.client import sync_command

WIDTH = 80
_INDENT = " " * 11
_COMMANDS = "go on"
_DIGITS = 16
"""Of a sha256 on a line of 80 columns."""
_FILES = 8
"""So many files of data are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One thing that happened to a run, as UTC text."""

    time: str
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """All that is known of one attempt, as ``invoke show RUN --json`` tells it."""

    run: str
    state: str
    here: bool
    """Whether this checkout has its record; else it is told as its bucket knows it."""
    cloud: str
    offer: str | None
    pod_region: str | None
    hours: float
    budget: float | None
    rerun_of: str | None
    summary: RunSummary
    values: Values
    settings: Mapping[str, object]
    snapshot: Snapshot | None
    events: tuple[RunEvent, ...]
    commands: tuple[str, ...]


def show(context: CommandContext, reference: str, stack: str | None) -> RunPage:
    """Return the page of the attempt that a person means; raises UserError for one that is nowhere."""
    with seen(context, reference, stack) as attempt:
        record = attempt.record
        summary = summarize(record, attempt.folder)
        return RunPage(
            run=str(attempt.key), state=state_of(record), here=attempt.here, cloud=record.cloud, offer=record.pod.offer,
            pod_region=record.pod.pod_region, hours=record.hours, budget=record.budget, rerun_of=record.rerun_of, summary=summary,
            values=record.values, settings=snapshots.settings_of(attempt.folder.snapshot), snapshot=snapshots.read(attempt.folder.snapshot),
            events=tuple(_events(context, attempt)), commands=tuple(_commands(context, attempt, summary, stack)),
        )  # fmt: skip


def _events(context: CommandContext, attempt: SeenAttempt) -> Iterator[RunEvent]:
    events = context.ledger().events(attempt.record.id)
    if not events and attempt.store is not None:
        events = events_in(attempt.store, attempt.record.id)
    for event in events:
        yield RunEvent(time=format_time(event.time), kind=event.kind, data=event.data)


def _commands(context: CommandContext, attempt: SeenAttempt, summary: RunSummary, stack: str | None) -> Iterator[str]:
    """Give the commands that go on from here, each of which works as it is printed."""
    record, name = attempt.record, str(attempt.key)
    over = record.reached("ended")
    at = ["--stack", stack] if not attempt.here and stack not in (None, "local") else []

    def command(*words: str) -> str:
        return shlex.join(["invoke", *(word for word in words if word)])

    if attempt.here and not over:
        yield from (command("attach", str(record.id)), command("logs", str(record.id), "--follow"), command("cancel", str(record.id)))
    elif attempt.here and attempt.folder.log.is_file():
        yield command("logs", name)
    if summary.resume:
        yield summary.resume
    if summary.s3_key and summary.files and not summary.simulated:
        yield command("download", name, summary.place, *at)
        with contextlib.suppress(TrainyardError):  # keys that are half set now: the page is worth reading all the same
            store = attempt.store or store_of(context, record.bucket)
            yield from [sync_command(store, summary.s3_key, summary.place)] if store else []
    if over and _has_stack(context, record.environment):
        yield command("rerun", name, *at)
    if record.rerun_of:
        yield command("diff", record.rerun_of, name, *at)


def _has_stack(context: CommandContext, stack: str) -> bool:
    try:
        return bool(reader.cloud_of(context.places.root, stack))
    except TrainyardError:
        return False


def lines(page: RunPage) -> list[str]:
    """Return the page for a person, on 80 columns; only what is copied (commands, URLs, paths) is longer and never broken."""
    summary = page.summary
    sections: list[tuple[str, Iterable[str]]] = [
        ("run", _head(page)), ("pods", _pods(page)), ("stages", _stages(summary)), ("training", _training(summary)),
        ("values", _pairs(page.values)), ("data", _data(summary)), ("code", _code(page)), ("versions", [_listed(summary.versions)]),
        ("settings", _pairs(page.settings)), ("events", _events_of(page.events)), ("result", _result(summary)), (_COMMANDS, page.commands),
    ]  # fmt: skip
    return [line for title, content in sections for line in _section(title, content)]


def _section(title: str, content: Iterable[str]) -> Iterator[str]:
    first = True
    for text in map(printable, content):  # a bucket may hold what somebody else wrote
        head = f"{title:<11}" if first else _INDENT
        first = False
        whole = title == _COMMANDS or text.startswith(("s3://", "/"))
        yield from (
            [head + text]
            if whole
            else textwrap.wrap(
                text, WIDTH, initial_indent=head, subsequent_indent=_INDENT + "  ", break_long_words=False, break_on_hyphens=False
            )
            or [head.rstrip()]
        )


def _head(page: RunPage) -> Iterator[str]:
    summary = page.summary
    yield f"{page.run}: {page.state}" + ("" if page.here else ", as its bucket knows it")
    yield f"{_moment(summary.started_at)} to {_moment(summary.ended_at) if summary.ended_at else 'now'}, recipe {summary.recipe}"
    budget = "" if page.budget is None else f", budget ${page.budget:.2f}"
    yield f"stack {summary.stack}, cloud {page.cloud or '?'}{' (SIMULATED)' if summary.simulated else ''}, {page.hours:g} h{budget}"
    if page.rerun_of:
        yield f"it ran {page.rerun_of} again"
    if summary.resumed_from:
        yield f"it went on from {summary.resumed_from.path.rpartition('/')[2]} of {summary.resumed_from.run}"
    if summary.init_from:
        yield f"it began with the adapter of {summary.init_from.run}"
    if summary.error:
        yield from summary.error.splitlines()[:4]


def _pods(page: RunPage) -> Iterator[str]:
    for pod in page.summary.pods:
        gpu = f"{pod.gpu_count}x {pod.gpu}" if pod.gpu else "CPU"
        price = "price unknown" if pod.price_per_hour is None else f"${pod.price_per_hour:.2f}/h"
        where = f" in {pod.region}" if pod.region not in (None, "", REGION) else ""
        offer = f", offer {pod.offer}" if pod.offer else ""
        billed = "" if pod.billed is None else f", billed ${pod.billed:.2f}"
        yield f"{pod.pod_id}: {gpu} at {price}{where}{offer}: ${pod.cost:.2f}{billed}"


def _stages(summary: RunSummary) -> Iterator[str]:
    for stage in summary.stages:
        yield f"{stage.name:<12} {duration(stage.seconds):>8}  ${stage.cost:.2f}"
    other = [stage for stage in summary.stages if stage.name != "train"]
    if summary.stages:
        yield f"{'all':<12} {duration(sum(stage.seconds for stage in summary.stages)):>8}  ${summary.cost:.2f}"
        yield f"not training {duration(sum(stage.seconds for stage in other)):>8}  ${sum(stage.cost for stage in other):.2f}"
    if summary.billed:
        yield f"{summary.billed}{': they differ' if summary.billed.differs else ''}"
    if summary.spent_before:
        yield f"earlier attempts cost ${summary.spent_before:.2f}"


def _training(summary: RunSummary) -> Iterator[str]:
    if summary.steps_done or summary.steps_planned:
        loss = "" if summary.final_loss is None else f", loss {summary.first_loss:.4f} -> {summary.final_loss:.4f}"
        tokens = f", {summary.tokens:,} tokens" if summary.tokens else ""
        yield f"{of_all(summary.steps_done, summary.steps_planned)} steps{loss}{tokens}"
    if summary.exit_code is not None:
        yield f"exit code {summary.exit_code}"


def _pairs(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in sorted(values.items()):
        if value not in (None, [], {}, ""):
            yield f"{name}: {list_in_words(value) if isinstance(value, list) else value}"


def list_in_words(values: list[Any]) -> str:
    """Return a list as it could be typed: words of a shell or, where it holds maps (rules, pods), YAML on one line."""
    return json.dumps(values) if any(isinstance(value, dict) for value in values) else shlex.join(map(str, values))


def _data(summary: RunSummary) -> Iterator[str]:
    data = summary.data
    if data.kind == "none":
        return
    rows = f", {data.rows:,} rows of {data.form}" if data.form else ""
    yield f"{data.reference}: {len(data.files)} files, {human_size(data.bytes)}{rows}"
    for file in data.files[:_FILES]:
        yield f"{(file.sha256 or file.etag or 'known on the pod only')[:_DIGITS]}  {human_size(file.bytes)}  {file.dest}"
    if len(data.files) > _FILES:
        yield f"and {len(data.files) - _FILES} more"


def _code(page: RunPage) -> Iterator[str]:
    own, snapshot = page.summary.code, page.snapshot
    if own:
        yield f"{own.files} files, {human_size(own.bytes)}, sha256 {own.sha256[:_DIGITS]}, of {own.folder}"
    yield f"bundle sha256 {page.summary.bundle_sha256[:_DIGITS]}"
    if snapshot is None:
        yield f"commit {page.summary.git_commit or 'unknown'}; it has no snapshot"
        return
    for repository in snapshot.repositories:
        yield str(repository)
    for text in snapshot.left_out()[:_FILES]:
        yield f"not in the patch: {text}"


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _events_of(events: Iterable[RunEvent]) -> Iterator[str]:
    """Return the events for a person; what was measured for estimates is for them alone."""
    return (_event(event) for event in events if event.kind != MEASURED)


def _event(event: RunEvent) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in event.data.items() if value not in (None, ""))
    return f"{_moment(event.time)}  {event.kind}{f': {facts}' if facts else ''}"


def _result(summary: RunSummary) -> Iterator[str]:
    if summary.s3_url or summary.local_path:
        yield str(summary.s3_url or summary.local_path)
        yield f"{summary.files or 0} files, {human_size(summary.bytes or 0)}, manifest sha256 {str(summary.manifest_sha256)[:_DIGITS]}"
    if summary.storage and (kept := summary.storage.text()):
        yield kept
    if summary.kept:
        yield f"kept, NOT a success: {summary.kept.why}"
    if summary.logs_url:
        yield summary.logs_url


def _moment(text: str | None) -> str:
    """Return a moment as a person reads it, in UTC."""
    return str(text).replace("T", " ").replace("Z", "")
