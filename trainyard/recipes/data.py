"""The data of a run: find the files, validate every row as a stream, take their sha256.

A reference is a file, a folder, ``s3://bucket/key`` or ``hf://[datasets/]owner/name[@revision][/path]``.
Nothing is copied here. ``hf://`` cannot be read before the pod exists: the pod loads and validates it.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from trainyard.errors import Location, UserError
from trainyard.recipes import datafiles
from trainyard.recipes.contract import Recipe
from trainyard.recipes.rows import RowError, read_rows

_HF = re.compile(r"^hf://(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+?))?(?:/(?P<path>[^@]+))?$")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file: where it comes from, its name under input/, its sha256 (None: known only on the pod)."""

    src: str
    dest: str
    sha256: str | None
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Data:
    """What a run trains on."""

    reference: str | None
    kind: Literal["none", "file", "folder", "s3", "hf"]
    form: str | None
    rows: int
    bytes: int
    files: tuple[DataFile, ...]
    left_out: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the one line a person reads."""
        if self.kind == "none":
            return "none"
        if self.kind == "hf":
            return f"{self.reference}, loaded and checked on the pod"
        rows = f"{self.rows} rows of {self.form}, " if self.form else ""
        files = self.files[0].dest if len(self.files) == 1 else f"{len(self.files)} files"
        aside = f" (left out: {', '.join(self.left_out)})" if self.left_out else ""
        return f"{files}: {rows}{_size(self.bytes)}{aside}"

    def summary(self) -> dict[str, Any]:
        """Return what the record and the summary keep."""
        files = [{"src": item.src, "dest": item.dest, "sha256": item.sha256, "bytes": item.bytes, "rows": item.rows} for item in self.files]
        return {"reference": self.reference, "kind": self.kind, "form": self.form, "rows": self.rows, "bytes": self.bytes, "files": files}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a bucket: its own name below the reference, its size, and how to read it."""

    url: str
    name: str
    bytes: int
    open: Callable[[], BinaryIO]


Resolver = Callable[[str], Sequence[RemoteFile]]


def inspect(reference: str | None, recipe: Recipe, resolver: Resolver | None = None) -> Data:
    """Return the data of a run, every row checked. None stands for the recipe's own sample.

    ``resolver`` lists the files behind an ``s3://`` reference. Raises UserError with file:line.
    """
    if recipe.data == "none":
        if reference:
            raise UserError(f"recipe {recipe.name} takes no --data")
        return Data(None, "none", None, 0, 0, ())
    if reference is None:
        if recipe.sample is None:
            if recipe.data == "files":
                return Data(None, "none", None, 0, 0, ())
            raise UserError(f"recipe {recipe.name} needs --data: a file, a folder, s3://... or hf://...")
        reference = str(recipe.folder / recipe.sample)
    if reference.startswith("hf://"):
        return _hub(reference)
    if reference.startswith("s3://"):
        return _bucket(reference, recipe, resolver)
    scheme = re.match(r"^([a-z][a-z0-9+.-]*)://", reference, re.IGNORECASE)
    if scheme:
        raise UserError(f"--data {reference}: '{scheme[1]}://' is not known; use a file, a folder, s3://... or hf://...")
    return _local(reference, recipe)


def hub_reference(reference: str) -> dict[str, str | None]:
    """Return repo, revision and path of an ``hf://`` reference. Raises UserError."""
    match = _HF.match(reference)
    if not match:
        raise UserError(f"--data {reference}: write hf://owner/name, with @revision and /path/in/it if wanted")
    return match.groupdict()


def _hub(reference: str) -> Data:
    hub_reference(reference)
    return Data(reference, "hf", None, 0, 0, (DataFile(reference, "hub", None, 0, 0),))


def _bucket(reference: str, recipe: Recipe, resolver: Resolver | None) -> Data:
    if resolver is None:
        raise UserError(f"--data {reference}: there is no bucket configured to read it from")
    found = resolver(reference)
    if not found:
        raise UserError(f"--data {reference}: nothing is there")
    forms: Counter[str] = Counter()
    files = []
    left_out: list[str] = []
    for item in datafiles.of_bucket(found, reference, recipe.data == "rows", left_out):
        with item.open() as stream:
            files.append(_checked(stream, item.url, item.name, f"{reference}: {item.name}", recipe, forms))
    if not files:
        raise UserError(f"--data {reference}: no data file is there", hint=_left_out(left_out))
    return _data(reference, "s3", forms, files, tuple(left_out))


def _local(reference: str, recipe: Recipe) -> Data:
    path = Path(reference).expanduser()
    if not path.exists():
        raise UserError(f"--data {reference}: there is no such file or folder")
    left_out: list[str] = []
    found = [(path, path.name)] if not path.is_dir() else list(datafiles.of_folder(path, recipe.data == "rows", left_out))
    if not found:
        raise UserError(f"--data {reference}: the folder holds no data file", hint=_left_out(left_out))
    forms: Counter[str] = Counter()
    files = []
    for source, dest in found:
        datafiles.need_file(source)
        try:
            with source.open("rb") as stream:
                files.append(_checked(stream, str(source.resolve()), dest, str(source), recipe, forms))
        except OSError as error:
            raise UserError(f"{source}: cannot be read: {error.strerror or error}") from None
    return _data(reference, "folder" if path.is_dir() else "file", forms, files, tuple(left_out))


def _checked(stream: BinaryIO, src: str, dest: str, shown: str, recipe: Recipe, forms: Counter[str]) -> DataFile:
    rows = 0
    hashing = _Hashing(stream)
    buffered = io.BufferedReader(hashing, 1 << 17)
    if recipe.data == "rows" and dest.endswith(".parquet"):
        # Parquet is read from its end: its rows first, its sha256 in a second pass.
        if not stream.seekable():
            raise UserError(f"{shown}: Parquet cannot be checked in a bucket; convert it to JSON Lines")
        rows = _count_rows(io.BufferedReader(cast(Any, stream)), shown, forms)
        stream.seek(0)
    elif recipe.data == "rows":
        rows = _count_rows(buffered, shown, forms)
    while buffered.read(1 << 20):
        pass
    return DataFile(src, dest, hashing.digest.hexdigest(), hashing.count, rows)


def _count_rows(stream: io.BufferedReader[Any], shown: str, forms: Counter[str]) -> int:
    rows = 0
    try:
        for row in read_rows(stream, shown):
            forms[row.form] += 1
            rows += 1
    except RowError as error:
        where = Location(shown, error.line, error.column, error.text)
        raise UserError(error.message, where=where, hint=_hint(error)) from None
    return rows


class _Hashing(io.RawIOBase):
    """A stream that takes the sha256 of what is read through it, once and in order."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self.digest.update(data)
        self.count += len(data)
        return len(data)


def _data(
    reference: str,
    kind: Literal["file", "folder", "s3"],
    forms: Counter[str],
    files: list[DataFile],
    left_out: tuple[str, ...],
) -> Data:
    form = " + ".join(sorted(forms)) if forms else None
    return Data(reference, kind, form, sum(f.rows for f in files), sum(f.bytes for f in files), tuple(files), left_out)


def _hint(error: RowError) -> str | None:
    return "Put files that are not data elsewhere, or name the data file itself." if "cannot tell how to read" in error.message else None


def _left_out(names: list[str]) -> str | None:
    return f"Left out: {', '.join(names)}." if names else None


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
