"""What the page of one run shows beside the list's row: its record as far as it is here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import TrainyardError
from trainyard.ledger.rows import LedgerEvent, RunRow
from trainyard.runs.records.parts import RunResult
from trainyard.runs.records.progress import duration, of_all
from trainyard.runs.records.record import RunFolder, RunRecord, is_driven
from trainyard.runs.records.stagecost import StageCost, by_stage
from trainyard.runs.records.summary import cost
from trainyard.runs.verbs.listing import ListedRun
from trainyard.web.live.curves import RunCurves
from trainyard.web.pages import wording

FETCHED = "fetched"
"""Folder of a run's own with what was fetched for a browser."""
_FILES = 200
_NOTES = ("reason", "why", "error", "gpu", "cloud", "exit_code", "text")
"""What an event tells that is worth a line."""


@dataclass(frozen=True, slots=True)
class ShownPod:
    """A pod that the run had or has."""

    id: str
    gpu: str | None
    price: float | None
    end: str | None
    ended: float | None


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """One thing that happened to a run."""

    time: float
    kind: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """What its record tells."""

    hours: float
    budget: float | None
    gpu: str | None
    gpu_count: int | None
    price_per_hour: float
    stages: Sequence[StageCost]
    result: RunResult | None
    checkpoint: str | None
    pods: Sequence[ShownPod]
    values: Sequence[tuple[str, str]]
    files: Sequence[tuple[str, int]]


def details(folder: RunFolder) -> tuple[RunRecord, RunDetails] | None:
    """Return a run's record and what is shown of it; None where it is not here, or cannot be read."""
    with contextlib.suppress(TrainyardError):
        record = folder.load()
        now = record.ended or time.time()
        return record, RunDetails(
            hours=record.hours, budget=record.budget, gpu=record.pod.gpu, gpu_count=record.pod.gpu_count, price_per_hour=record.per_hour,
            stages=by_stage(record, cost(record, now), now), result=record.result, checkpoint=record.checkpoint, pods=list(_pods(record)),
            values=[(name, shown(value)) for name, value in record.values.items() if value not in (None, "", [], ())],
            files=list(fetched_files(folder.path / FETCHED)),
        )  # fmt: skip
    return None


def shown(value: object) -> str:
    """Return a value as one reads it."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value).lower() if isinstance(value, bool) else str(value)


def unfollowed(record: RunRecord, folder: RunFolder) -> bool:
    """Tell whether a training goes on here and no process follows it."""
    return record.begun and not record.reached("trained") and not is_driven(folder)


def fetched_files(place: Path) -> Iterator[tuple[str, int]]:
    """Yield the files that were fetched, with their sizes; links are none."""
    if not place.is_dir():
        return
    files = sorted(path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    for path in files[:_FILES]:
        yield path.relative_to(place).as_posix(), path.stat().st_size


def shown_events(events: Sequence[LedgerEvent]) -> list[ShownEvent]:
    """Return a run's events for its page, newest first."""
    return [ShownEvent(event.time, event.kind, _note(event.data)) for event in reversed(events)]


def live_figures(run: ListedRun | RunRow, curves: RunCurves) -> Mapping[str, Any]:
    """Return the figures of this moment as texts; the page's stream sends the same."""
    speed, rate = curves.last("tokens_per_second"), curves.last("lr")
    return {
        "step": of_all(run.steps_done, run.steps_planned) if run.steps_done or run.steps_planned else "–",
        "percent": round(100 * min(1.0, run.steps_done / run.steps_planned)) if run.steps_planned else 0,
        "loss": wording.figure(run.loss),
        "lr": wording.figure(run.learning_rate if rate is None else rate),
        "speed": "–" if speed is None else f"{speed:,.0f}",
        "eta": "–" if run.eta is None else duration(run.eta),
        "cost": wording.money(run.cost),
    }


def _pods(record: RunRecord) -> Iterator[ShownPod]:
    ends = {pod.pod_id: pod.end for pod in record.group if pod.pod_id}
    for pod in record.pods:
        yield ShownPod(pod.pod_id, pod.gpu, pod.price_per_hour, ends.get(pod.pod_id), pod.ended)


def _note(data: Mapping[str, Any]) -> str:
    return ", ".join(str(data[name])[:200] for name in _NOTES if data.get(name) not in (None, ""))
