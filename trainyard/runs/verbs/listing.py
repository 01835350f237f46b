"""What runs there are, and their logs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import BinaryIO

from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.delivery import is_under_way, line_of, read_state
from trainyard.runs.records.parts import RunResult
from trainyard.runs.records.progress import of_all
from trainyard.runs.records.record import RunFolder, RunRecord, all_folders, is_driven
from trainyard.runs.records.summary import cost, read_metrics, stopped, verdict

_POLL = 0.3
_HEAD = ("run", "state", "steps", "loss", "$", "result", "recipe", "stack")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of this checkout, as ``invoke runs`` tells it. Money is in dollars."""

    run: str
    attempt: int
    stack: str | None = None
    recipe: str | None = None
    state: str
    steps_done: int = 0
    steps_planned: int = 0
    loss: float | None = None
    cost: float = 0.0
    s3_url: str | None = None
    local_path: str | None = None
    owed: bool = False
    over: bool = True
    error: str | None = None
    delivery: str | None = None
    """What becomes of its delivery, in words."""


def list_runs(context: CommandContext) -> list[RunRow]:
    """Return one row a run, oldest first."""
    return [_row(folder) for folder in all_folders(context.places.runs)]


def _row(folder: RunFolder) -> RunRow:
    try:
        record = folder.load()
    except UserError as error:
        # Its record is damaged; its pod may still be there.
        user, label, attempt = folder.path.parts[-3:]
        return RunRow(run=f"{user}/{label}", attempt=int(attempt), state="unreadable record", error=error.message)
    metrics, result = read_metrics(record, folder), record.result or RunResult()
    return RunRow(
        run=str(record.id),
        attempt=record.attempt,
        stack=record.environment,
        recipe=record.recipe,
        state=state_of(record),
        steps_done=metrics.step,
        steps_planned=metrics.total,
        loss=metrics.loss,
        cost=round(cost(record), 4),
        s3_url=result.s3_url,
        local_path=result.local_path,
        owed=result.owed,
        over=record.reached("ended"),
        error=record.error,
        delivery=_delivery(folder, record),
    )


def _delivery(folder: RunFolder, record: RunRecord) -> str | None:
    state = read_state(folder)
    return line_of(f"{record.id}/{record.attempt}", state, under_way=is_under_way(folder)) if state else None


def lines(rows: list[RunRow]) -> list[str]:
    """Return the rows for a person: whole names and words at any width, what went wrong below its run."""
    if not rows:
        return ["no runs in this repository yet"]
    newest = {row.run: row for row in sorted(rows, key=lambda row: row.attempt)}
    # The name alone means the newest attempt; earlier ones are asked for by their number.
    names = [row.run if newest[row.run] is row else f"{row.run}/{row.attempt}" for row in rows]
    cells = [_HEAD, *(_cells(name, row) for name, row in zip(names, rows, strict=True))]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    text_lines = aligned[:1]
    for text, row in zip(aligned[1:], rows, strict=True):
        text_lines.append(text)
        if row.error and row.error != row.state:
            text_lines.append(f"    {row.error.partition(chr(10))[0]}")
        if not row.over:
            text_lines.append(f"    not over; this follows it to its end: invoke attach {row.run}")
        if row.delivery:
            text_lines.append(f"    {row.delivery}")
        if row.owed:
            text_lines.append("    its result is not in its bucket yet; this brings it there: invoke recover")
    return text_lines


def _cells(name: str, row: RunRow) -> tuple[str, ...]:
    steps = of_all(row.steps_done, row.steps_planned) if row.steps_done or row.steps_planned else ""
    loss = "" if row.loss is None else f"{row.loss:.4f}"
    result = "owed" if row.owed else "bucket" if row.s3_url else "home" if row.local_path else ""
    return name, row.state, steps, loss, f"{row.cost:.2f}", result, row.recipe or "?", row.stack or "?"


def print_log(context: CommandContext, reference: str, *, follow: bool, out: BinaryIO) -> int:
    """Copy a run's log to a stream, byte for byte; with ``follow`` until the training has ended.

    While a controller drives the run its copy is read; with none (detached, killed) the pod itself is asked.
    """
    folder = context.folder(reference)
    record = folder.load()
    if record.reached("started") and not record.reached("trained") and record.error is None and not is_driven(folder):
        return _from_pod(context, record, follow, out)
    offset = _copy(folder, 0, out)
    while follow and not record.reached("trained") and record.error is None:
        time.sleep(_POLL)
        offset = _copy(folder, offset, out)
        record = folder.load()
    _copy(folder, offset, out)
    return 0


def _from_pod(context: CommandContext, record: RunRecord, follow: bool, out: BinaryIO) -> int:
    from trainyard.remote.follow import Tail
    from trainyard.remote.follow import follow as follow_job
    from trainyard.remote.protocol import quote
    from trainyard.remote.reconnect import Reconnecting
    from trainyard.runs.records.pod import pod_of

    def write(data: bytes) -> None:
        out.write(data)
        out.flush()

    pod = pod_of(context, record)
    with Reconnecting(pod.connect, name=f"pod {pod.id}") as transport:
        if follow:
            follow_job(transport, pod.path("job"), [Tail(pod.path("job", "log"), write)])
        else:
            transport.exec(f"cat {quote(pod.path('job', 'log'))}", on_stdout=write)
    return 0


def _copy(folder: RunFolder, offset: int, out: BinaryIO) -> int:
    if not folder.log.is_file():
        return offset
    with folder.log.open("rb") as log:
        log.seek(offset)
        while piece := log.read(1 << 20):
            out.write(piece)
            offset += len(piece)
    out.flush()
    return offset


def state_of(record: RunRecord) -> str:
    """Return in words how an attempt stands: its phase, and its verdict once it is over."""
    if not record.reached("ended"):
        return record.phase if record.error is None else "failed, not ended"
    return verdict(success=bool(record.training_success and record.result), cancelled=record.cancelled, stopped=stopped(record))
