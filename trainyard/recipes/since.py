"""Of a run's data only what an earlier run has not had: files by their sha256, rows that were added to a file, objects by key and ETag."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from trainyard.errors import RefusedError
from trainyard.files import sha256_of
from trainyard.recipes.summaries import DataFile

LAST = "last"
"""Stands for the newest success of a kind, where a run is asked for."""
_LINES = (".jsonl", ".ndjson")
"""Files of which a part can be taken: a row is a line, and no line says how to read the others."""
_PIECE = 1 << 20
_KEPT_SECONDS = 90 * 86_400.0
"""After so long without a run that made it, a file of added rows is removed."""


class NothingNew(RefusedError):
    """All data were taken by an earlier run: there is nothing to train on, and no run begins."""


@dataclass(frozen=True, slots=True)
class EarlierData:
    """What an earlier run found as its data."""

    run: str
    """user/label/attempt."""
    files: tuple[DataFile, ...]
    """All that lay there, whether it was new then or not."""
    folder: Path
    """Where rows that were added to a file are written."""


@dataclass(slots=True)
class NewData:
    """What is new of a run's data, looked at one by one."""

    earlier: EarlierData
    there: list[DataFile] = field(default_factory=list)
    """All that lies there now, for the run after this one."""
    _hashes: set[str] = field(init=False)
    _objects: set[tuple[str, str]] = field(init=False)
    _names: dict[str, DataFile] = field(init=False)

    def __post_init__(self) -> None:
        files = self.earlier.files
        self._hashes = {file.sha256 for file in files if file.sha256 is not None}
        self._objects = {(file.src, file.etag) for file in files if file.etag}
        self._names = {file.dest: file for file in files if file.sha256 is not None}

    def part_of(self, source: Path, dest: str) -> Path | None:
        """Return what of a file is new: itself, a file of the rows that were added, or None. Raises OSError."""
        whole = DataFile(str(source.resolve()), dest, sha256_of(source), source.stat().st_size, 0)
        self.there.append(whole)
        if whole.sha256 in self._hashes:
            return None
        before = self._names.get(dest)
        if before is None or source.suffix.lower() not in _LINES or not 0 < before.bytes < whole.bytes:
            return source
        return self._added(source, before, whole)

    def has_object(self, file: DataFile) -> bool:
        """Tell whether an object was there before, as it is now."""
        self.there.append(file)
        return file.sha256 in self._hashes or (file.src, file.etag) in self._objects

    def refuse_nothing(self, files: Sequence[DataFile], reference: str) -> None:
        """Raise NothingNew where no file is new."""
        if not files:
            raise NothingNew(
                f"--data {reference}: nothing is new since {self.earlier.run} (files that are as they were: {len(self.there)})",
                hint="Without --since all data are taken.",
            )

    def _added(self, source: Path, before: DataFile, whole: DataFile) -> Path | None:
        """Return the rows behind those that were there; the file itself where it was changed otherwise than by adding lines."""
        with source.open("rb") as file:
            digest, left, last = hashlib.sha256(), before.bytes, b""
            while left and (piece := file.read(min(_PIECE, left))):
                digest.update(piece)
                left, last = left - len(piece), piece[-1:]
            if digest.hexdigest() != before.sha256 or (last != b"\n" and file.read(1) != b"\n"):
                return source
            return self._written(file, f"{whole.sha256}-{before.bytes}{source.suffix}")

    def _written(self, rows: BinaryIO, name: str) -> Path | None:
        """Write what is left of a file into one of its own; None where that is blank."""
        path = self.earlier.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.iterdir():
            if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
                old.unlink(missing_ok=True)
        blank = True
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
            while piece := rows.read(_PIECE):
                blank = blank and not piece.strip()
                draft.write(piece)
        Path(draft.name).replace(path)
        return None if blank else path
