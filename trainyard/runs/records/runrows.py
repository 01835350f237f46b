"""The ledger's row of an attempt, made of its record; and the folders whose records the ledger does not know yet, taken in."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.config import attempt_number
from trainyard.errors import UserError
from trainyard.ledger.rows import RunRow
from trainyard.ledger.runid import RunId
from trainyard.runs.records.parts import RunResult
from trainyard.runs.records.progress import Metrics
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import began_at, cost, stopped, verdict

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger

_HEAD, _TAIL = 1 << 14, 1 << 17
"""Bytes of metrics.jsonl that tell a row's figures: where it began, and where it is."""
_RATES = ("learning_rate", "lr")


@dataclass(frozen=True, slots=True)
class UnreadableRun:
    """A folder here whose record cannot be read: its pod may still be there."""

    id: RunId
    why: str
    changed: float


def row_of(record: RunRecord, folder: RunFolder, estimate: float | None = None) -> RunRow:
    """Return what the ledger keeps of an attempt as it is now; ``estimate`` where what it may cost is told."""
    metrics, result = _newest_metrics(record, folder), record.result or RunResult()
    return RunRow(
        user=record.user,
        label=record.label,
        attempt=record.attempt,
        token=record.token,
        stack=record.environment,
        cloud=record.cloud,
        recipe=record.recipe,
        state=state_of(record),
        over=record.reached("ended"),
        machine=socket.gethostname(),
        created=record.created,
        started=record.pod.created_epoch,
        ended=record.ended,
        hours=record.hours,
        steps_done=metrics.step,
        steps_planned=metrics.total,
        loss=metrics.loss,
        learning_rate=_learning_rate(record, metrics),
        eta=None if record.reached("trained") or record.error else metrics.eta(),
        estimate=estimate,
        cost=round(cost(record), 4),
        s3_url=result.s3_url,
        local_path=result.local_path,
        owed=result.owed,
        error=record.error,
        git_commit=record.git_commit,
        changed=_changed(folder.path) or time.time(),
    )


def state_of(record: RunRecord) -> str:
    """Return in words how far an attempt has come, or how it has ended."""
    if not record.reached("ended"):
        return record.phase if record.error is None else "failed, not ended"
    return verdict(success=bool(record.training_success and record.result), cancelled=record.cancelled, stopped=stopped(record))


def take_in(ledger: Ledger, runs: Path, only: RunId | None = None) -> list[UnreadableRun]:
    """Bring the ledger to what the folders here (or one attempt's) say: of records that are newer than their rows, or have none.

    Returns those that cannot be read. Raises what the ledger raises when it cannot be used.
    """
    here = dict(_folders(runs) if only is None else _folder(runs, only))
    known = ledger.changes(list(here), socket.gethostname())
    rows, unreadable = [], []
    for run, changed in here.items():
        if changed and changed <= known.get(run, 0.0):
            continue
        folder = RunFolder(run.folder(runs))
        try:
            rows.append(row_of(folder.load(), folder))
        except UserError as error:
            unreadable.append(UnreadableRun(run, error.message, changed))
    ledger.put_runs(rows)
    return unreadable


def _folders(runs: Path) -> Iterator[tuple[RunId, float]]:
    """Yield each attempt that has a folder here, and when its record was written last, 0 without one."""
    for user in _below(str(runs)):
        for label in _below(f"{runs}/{user}"):
            for attempt in _below(f"{runs}/{user}/{label}"):
                number, folder = attempt_number(attempt), f"{runs}/{user}/{label}/{attempt}"
                if number and ((changed := _changed(folder)) or os.path.isdir(folder)):
                    yield RunId(user, label, number), changed


def _folder(runs: Path, run: RunId) -> Iterator[tuple[RunId, float]]:
    folder = run.folder(runs)
    if (changed := _changed(folder)) or folder.is_dir():
        yield run, changed


def _below(folder: str) -> list[str]:
    """Return the names in a folder, none in what is no folder. There are ten thousand of them: no Path is made of each."""
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _changed(folder: Path | str) -> float:
    with contextlib.suppress(OSError):
        return os.stat(f"{folder}/run.json").st_mtime
    return 0.0


def _learning_rate(record: RunRecord, metrics: Metrics) -> float | None:
    for value in (record.values.get(name) for name in _RATES):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return metrics.learning_rate


def _newest_metrics(record: RunRecord, folder: RunFolder) -> Metrics:
    """Return the figures that metrics.jsonl ends with; what is between its begin and its end is not read."""
    with contextlib.suppress(OSError):
        seen = folder.metrics.stat()
        return _read_metrics(folder.metrics, began_at(record), seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return Metrics(began_at(record))


@functools.lru_cache(maxsize=256)
def _read_metrics(path: Path, since: float, *_version: int) -> Metrics:
    """Read a file's figures; once for each of its versions, as many look at a list that is open."""
    metrics = Metrics(since)
    with contextlib.suppress(OSError), path.open("rb") as file:
        lines = file.read(_HEAD).split(b"\n")
        end = file.seek(0, os.SEEK_END)
        if end > _HEAD:
            file.seek(max(_HEAD - len(lines.pop()), end - _TAIL))
            lines += file.read().split(b"\n")
        for line in lines:
            metrics.take(line)
    return metrics
