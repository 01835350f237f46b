"""Copies of results on this machine that were fetched so that their models answer: where they lie, and which nobody has used lately."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainyard.config import Places
from trainyard.storage.manifest import ResultKey

FRESH = 86_400.0
"""Seconds after its last use that a copy is kept."""


@dataclass(frozen=True, slots=True)
class UnusedCopy:
    """A copy of a result that nobody has used for a while."""

    path: Path
    name: str
    files: int
    bytes: int
    days: float


def root_of(places: Places) -> Path:
    """Return where copies lie."""
    return places.home / "asked"


def used(places: Places, key: ResultKey) -> Path:
    """Return the place of a result's copy, whose use is noted."""
    path = root_of(places) / key.user / key.run / str(key.attempt)
    path.mkdir(parents=True, exist_ok=True)
    os.utime(path)
    return path


def unused(places: Places) -> Iterator[UnusedCopy]:
    """Yield the copies that nobody has used for a while."""
    root, now = root_of(places), time.time()
    for path in sorted(root.glob("*/*/*/")):
        age = now - path.stat().st_mtime
        if age > FRESH:
            sizes = [file.lstat().st_size for file in path.rglob("*") if not file.is_dir()]
            yield UnusedCopy(path, str(path.relative_to(root)), len(sizes), sum(sizes), age / 86_400)


def remove(copy: UnusedCopy) -> None:
    """Remove a copy, and the folders above it that are empty then; raises OSError."""
    shutil.rmtree(copy.path)
    for folder in (copy.path.parent, copy.path.parent.parent):
        if not any(folder.iterdir()):
            folder.rmdir()
