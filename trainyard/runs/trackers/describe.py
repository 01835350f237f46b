"""What trackers are told of a run: its name, its values, where it runs. No secret, and no path of this machine."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from trainyard.config import Places
from trainyard.recipes.summaries import Value
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.record import RunRecord
from trainyard.runs.trackers.tracked import Plain, TrackedRun
from trainyard.secret import hide

_DIGITS = 12


def lineage(record: RunRecord) -> str:
    """Return what all attempts of a run have in common that went on from each other: the first one's name and token."""
    return record.tracked_as or f"{record.user}/{record.label}/{record.attempt}/{record.token}"


def tracked_run(record: RunRecord, places: Places, project: str) -> TrackedRun:
    """Return a run as trackers know it."""
    first = lineage(record)
    number = first.split("/")[2]
    name = str(record.id) if number == "1" else f"{record.id}.{number}"
    return TrackedRun(
        id=f"{record.label[:40]}-{hashlib.sha256(first.encode()).hexdigest()[:_DIGITS]}", name=name, project=project,
        config=_config(record), tags=[record.recipe, record.environment, *(["simulated"] if record.pod.simulated else [])],
        folder=str(places.trackers), since=record.created if record.resumed_from is not None else 0.0, after=_earlier(record, places),
    )  # fmt: skip


def _config(record: RunRecord) -> dict[str, Plain]:
    values: dict[str, Plain] = {name: _plain(value) for name, value in record.values.items()}
    return values | {"recipe": record.recipe, "stack": record.environment, "user": record.user, "commit": record.git_commit}


def _plain(value: Value) -> Plain:
    if isinstance(value, list):
        return hide(shlex.join(value))
    if isinstance(value, str):
        return hide(Path(value).name if value.startswith("/") else value)
    return value


def _earlier(record: RunRecord, places: Places) -> str | None:
    """Return the folder of the attempt that a run goes on from, None where it goes on from none or this machine does not have it."""
    folder = attempt_before(record).folder(places.runs) if record.resumed_from is not None else None
    return str(folder) if folder is not None and folder.is_dir() else None


def attempt_before(record: RunRecord) -> RunId:
    """Return the attempt whose checkpoint a run goes on from; itself for one that begins anew."""
    if record.resumed_from is None:
        return record.id
    user, label, number = record.resumed_from.run.split("/")
    return RunId(user, label, int(number))
