"""What was done to a stack: the records that ``history`` shows, in the CLI's format, and the copies of states."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.engine.backend import Backend
from trainyard.engine.document import parse_json
from trainyard.engine.hook import write_atomic

_NAMES = {"up": "update"}
_COUNTS = {
    "replace": "replace",
    "create": "create",
    "update": "update",
    "delete": "delete",
    "same": "same",
    "read": "read",
    "refresh": "refresh",
}


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One operation of the past."""

    kind: str
    result: str
    start: int
    end: int
    changes: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return what an event shows."""
        return {"kind": self.kind, "result": self.result, "start": self.start, "end": self.end, "changes": dict(self.changes)}


def add(backend: Backend, project: str, stack: str, kind: str, start: float, succeeded: bool, changes: Mapping[str, int]) -> None:
    """Record a finished operation beside a copy of the state it left; raises OSError."""
    stamp = time.time_ns()
    folder = backend.root / "history" / project / stack
    record = {
        "kind": _NAMES.get(kind, kind),
        "startTime": int(start),
        "message": "",
        "environment": {"exec.kind": "builtin"},
        "config": {},
        "version": 0,
        "result": "succeeded" if succeeded else "failed",
        "endTime": int(time.time()),
        "resourceChanges": {_COUNTS[key]: count for key, count in changes.items() if key in _COUNTS},
    }
    source = backend.checkpoint_path(project, stack)
    backups = backend.root / "backups" / project / stack
    for place in (folder, backups):
        place.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{stack}-{stamp}.history.json", json.dumps(record, indent=4), durable=True)
    shutil.copyfile(source, folder / f"{stack}-{stamp}.checkpoint.json")
    shutil.copyfile(source, backups / f"{stack}.{stamp}.json")


def entries(backend: Backend, project: str, stack: str) -> list[HistoryEntry]:
    """Return the operations of the past, the newest first."""
    result = []
    for path in sorted((backend.root / "history" / project / stack).glob("*.history.json"), key=_stamp, reverse=True):
        try:
            data = parse_json(path.read_bytes())
        except ValueError:
            continue  # half written by a crash: history is not needed for anything
        changes = data.get("resourceChanges") or {}
        result.append(
            HistoryEntry(data.get("kind", "?"), data.get("result", "?"), data.get("startTime", 0), data.get("endTime", 0), changes)
        )
    return result


def _stamp(path: Path) -> int:
    digits = path.name.removesuffix(".history.json").rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
