"""The data of a run: find the files, validate every row as a stream, take their sha256.

A reference is a file, a folder, ``s3://bucket/key``, ``gs://bucket/key``, ``https://...#sha256=...`` or
``hf://[datasets/]owner/name[@revision][/path][:split]``. Nothing is copied here. What lies elsewhere is read from here only
for its rows, and only when it is small: else the pod loads and validates it. So it is with ``hf://``, and with Parquet where
pyarrow is not installed.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Literal, cast

from trainyard.errors import Location, UserError
from trainyard.pod.files import printable
from trainyard.recipes import datafiles, pictures
from trainyard.recipes.contract import Recipe
from trainyard.recipes.hashing import HashingStream
from trainyard.recipes.judge import Judge, judge_of
from trainyard.recipes.rows import RowError, can_read_parquet, read_rows, unknown_suffix
from trainyard.recipes.since import EarlierData, NewData
from trainyard.recipes.summaries import DataFile, DataKind, DataSummary
from trainyard.sizes import human_size
from trainyard.textfile import expanded

_HF = re.compile(
    r"^hf://(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+?))?(?:/(?P<path>[^@:?]+?))?"
    r"(?:(?::|\?split=)(?P<split>[\w.-]+))?$"
)
_SHOWN, _PLACES = 10, 5  # kinds of flaws that are told, places of each; the rest is counted
ROWS_HERE = 256_000_000
"""Bytes of rows in a bucket that are read from here, before anything is rented; more are checked on the pod."""
OF_RUN = "run:"
"""Begins data that an earlier run has left, ``run:user/label/model/rows.jsonl``: whoever prepares a run turns it into ``s3://``."""
_ELSEWHERE = ("s3://", "gs://", "https://")
_KINDS = "a file, a folder, s3://..., gs://..., https://...#sha256=... or hf://..."
_SKIP = "To train without flawed rows: --set on_bad_row=skip."


@dataclass(frozen=True, slots=True)
class Data:
    """What a run trains on."""

    reference: str | None
    kind: DataKind
    form: str | None
    rows: int
    bytes: int
    files: tuple[DataFile, ...]
    left_out: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    """Names of links whose file does not lie in the folder that was named; the file goes along."""
    skipped: tuple[str, ...] = ()
    """What was said of the rows that are skipped because they are flawed."""
    skipped_rows: int = 0
    unused: tuple[str, ...] = ()
    """Columns that hold something and are not used."""
    stored: str | None = None
    """The sha256 of their index in the bucket, where an earlier run has brought them."""
    since: str | None = None
    """The attempt whose data are left out."""
    there: tuple[DataFile, ...] = ()
    """Then all that lies there."""

    def describe(self) -> str:
        """Return the one line a person reads."""
        if self.kind == "none":
            return "none"
        if self.kind == "hf":
            return f"{self.reference}, loaded and checked on the pod"
        rows = f"{self.rows} rows of {self.form}, " if self.form else ""
        where = ", read where they lie, by the pod" if any(item.sha256 is None for item in self.files) else ""
        files = self.files[0].dest if len(self.files) == 1 else f"{len(self.files)} files"
        aside = f" (left out: {', '.join(self.left_out)})" if self.left_out else ""
        more = f" and {len(self.outside) - _PLACES} more" if len(self.outside) > _PLACES else ""
        linked = f" (by links out of the folder: {', '.join(self.outside[:_PLACES])}{more})" if self.outside else ""
        new = f" (new since {self.since})" if self.since else ""
        return f"{files}: {rows}{human_size(self.bytes)}{where}{linked}{aside}{new}"

    def remarks(self) -> list[str]:
        """Return what a person should know beside that line: rows that are skipped, columns that are not used."""
        lines = [f"{self.skipped_rows} flawed rows are skipped, as on_bad_row says:", *self.skipped] if self.skipped else []
        lines += [f"not used: {', '.join(self.unused)}"] if self.unused else []
        if self.form is None and any(item.dest.endswith(".parquet") for item in self.files):
            lines.append("the rows of Parquet files are checked on the pod (here, too, with pyarrow: pip install 'trainyard[parquet]')")
        return lines

    def summary(self) -> DataSummary:
        """Return what the record and the summary keep."""
        return DataSummary(
            reference=self.reference, kind=self.kind, form=self.form, rows=self.rows, bytes=self.bytes, files=self.files,
            skipped_rows=self.skipped_rows, unused=self.unused, stored=self.stored, since=self.since, there=self.there,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class BucketFile:
    """A file in a bucket or of the web: its own name below the reference, its size, how to read it, and what its bytes are known by."""

    url: str
    name: str
    bytes: int
    open: Callable[[], BinaryIO] | None
    """None: only the pod reads it."""
    sha256: str | None = None
    etag: str = ""
    version: str = ""


Resolver = Callable[[str], Sequence[BucketFile]]


@dataclass(slots=True)
class _Reading:
    """How rows are judged, and what was found on the way."""

    recipe: Recipe
    judge: Judge
    skip: bool
    forms: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    first: UserError | None = None
    flawed: int = 0
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """What is wrong -> the places, of the first ones."""
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, error: UserError) -> None:
        """Count a flaw; flaws of one kind are told together."""
        self.first = self.first or error
        self.flawed += 1
        reason = error.message if error.message in self.reasons or len(self.reasons) < _SHOWN else "other flaws"
        self.counts[reason] += 1
        places = self.reasons.setdefault(reason, [])
        if len(places) < _PLACES:
            places.append(f"{error.where.file}:{error.where.line}" if error.where else "?")

    def lines(self) -> tuple[str, ...]:
        """Return the flaws as lines: what is wrong, how often and where."""
        return tuple(f"{self._places(reason)}: {reason}" for reason in self.reasons)

    def _told_below(self, first: UserError) -> list[str]:
        """Return the same below the first flaw, whose sentence is not said again."""
        return [f"{self._places(reason)}: {'this' if reason == first.message else reason}" for reason in self.reasons]

    def stop(self, hint: str | None) -> UserError:
        """Return the error that tells all flaws, the first with its line."""
        assert self.first is not None
        rows = sum(self.forms.values())
        lines = [f"{self.flawed} rows are flawed, {rows} are not:", *self._told_below(self.first)] if self.flawed > 1 else []
        return UserError(self.first.message, where=self.first.where, hint="\n".join(filter(None, [*lines, self.first.hint, hint])) or None)

    def _places(self, reason: str) -> str:
        places, count = self.reasons[reason], self.counts[reason]
        if count == 1:
            return places[0]
        more = ", ..." if count > len(places) else ""
        return f"{count} rows ({', '.join([places[0], *(place.rpartition(':')[2] for place in places[1:])])}{more})"


def inspect(
    reference: str | None, recipe: Recipe, resolver: Resolver | None = None, values: Mapping[str, object] | None = None,
    earlier: EarlierData | None = None,
) -> Data:  # fmt: skip
    """Return the data of a run, every row checked. None stands for the recipe's own sample.

    ``resolver`` lists the files behind an ``s3://`` reference; ``values`` may hold on_bad_row and ignore_columns; of ``earlier`` data
    nothing is taken again. Raises UserError with file:line, NothingNew where nothing is left.
    """
    if earlier is not None and (reference is None or reference.startswith("hf://")):
        what = "a recipe's own sample" if reference is None else reference
        raise UserError(f"--since: of {what} nothing tells what is new", hint=f"Name data as {_KINDS.rpartition(' or ')[0]}.")
    if recipe.data == "none":
        if reference:
            raise UserError(f"recipe {recipe.name} takes no --data")
        return Data(None, "none", None, 0, 0, ())
    if reference is None:
        if recipe.sample is None:
            if recipe.data == "files":
                return Data(None, "none", None, 0, 0, ())
            raise UserError(f"recipe {recipe.name} needs --data: {_KINDS}")
        reference = str(recipe.folder / recipe.sample)
    values = values or {}
    for value in (values.get(variable.name) for variable in recipe.variables if variable.kind == "rows"):
        if value:
            _beside(str(value), _reading(recipe, values))
    if reference.startswith("hf://"):
        return _hub(reference)
    reading = _reading(recipe, values)
    new = NewData(earlier) if earlier else None
    scheme = re.match(r"^([a-z][a-z0-9+.-]*)://", reference, re.IGNORECASE)
    if scheme and not reference.startswith(_ELSEWHERE):
        raise UserError(f"--data {reference}: '{scheme[1]}://' is not known; use {_KINDS}")
    data = _bucket(reference, reading, resolver, new) if scheme else _local(reference, reading, new)
    if recipe.form == "pictures" and not scheme:
        data = replace(data, **pictures.judged(data.files, values)._asdict())
    return data if new is None else replace(data, since=new.earlier.run, there=tuple(new.there))


def _reading(recipe: Recipe, values: Mapping[str, object]) -> _Reading:
    return _Reading(recipe, judge_of(recipe, values), values.get("on_bad_row") == "skip")


def _beside(path: str, reading: _Reading) -> None:
    """Raise UserError for a file of rows that stands beside the data (rows held back) and is flawed."""
    with open(path, "rb") as stream:
        _data(path, "file", reading, [_checked(stream, path, path, path, reading)], ())


def hub_reference(reference: str) -> dict[str, str | None]:
    """Return repo, revision and path of an ``hf://`` reference. Raises UserError."""
    match = _HF.match(reference)
    if not match:
        raise UserError(f"--data {reference}: write hf://owner/name, with @revision, /path/in/it and :split if wanted")
    return match.groupdict()


def _hub(reference: str) -> Data:
    hub_reference(reference)
    return Data(reference, "hf", None, 0, 0, (DataFile(reference, "hub", None, 0, 0),))


def _bucket(reference: str, reading: _Reading, resolver: Resolver | None, new: NewData | None) -> Data:
    if resolver is None:
        raise UserError(f"--data {reference}: only the pod of a run fetches it; for a bundle by hand name files of this machine")
    files_there = resolver(reference)
    if not files_there:
        raise UserError(f"--data {reference}: nothing is there")
    left_out: list[str] = []
    rows = reading.recipe.data == "rows"
    objects = datafiles.of_bucket(files_there, reference, rows, left_out)
    if not objects:
        raise UserError(f"--data {reference}: no data file is there", hint=_left_out(left_out))
    if new is not None:
        objects = [one for one in objects if not new.has_object(DataFile(one.url, one.name, one.sha256, one.bytes, 0, one.etag))]
    here = rows and sum(item.bytes for item in objects) <= ROWS_HERE
    files: list[DataFile] = []
    for item in objects:
        shown = f"{reference}: {item.name}"
        if here and item.open is not None:
            with item.open() as stream:
                file = _checked(stream, item.url, item.name, shown, reading)
        else:
            if rows:
                _need_known(item.name, shown)
            file = DataFile(item.url, item.name, item.sha256, item.bytes, 0)
        files.append(replace(file, etag=item.etag, version=item.version))
    if new is not None:
        new.refuse_nothing(files, reference)
    return _data(reference, "url" if reference.startswith("https://") else "s3", reading, files, tuple(left_out))


def _need_known(name: str, shown: str) -> None:
    """Raise UserError for a file of rows whose name does not say how to read it."""
    if problem := unknown_suffix(name):
        raise UserError(f"{shown}: {problem.message}", hint=problem.hint)


def _local(reference: str, reading: _Reading, new: NewData | None) -> Data:
    path = expanded(reference)
    if not path.exists():
        raise UserError(f"--data {reference}: there is no such file or folder")
    left_out: list[str] = []
    paths = [(path, path.name)] if not path.is_dir() else list(datafiles.of_folder(path, reading.recipe.data == "rows", left_out))
    if not paths:
        raise UserError(f"--data {reference}: the folder holds no data file", hint=_left_out(left_out))
    files: list[DataFile] = []
    outside: list[str] = []
    top = str(path.resolve()).rstrip("/") + "/"
    for source, dest in paths:
        datafiles.need_file(source)
        try:
            part = new.part_of(source, dest) if new else source
            if part is None:
                continue
            with part.open("rb") as stream:
                files.append(_checked(stream, str(part.resolve()), dest, str(part), reading))
        except OSError as error:
            raise UserError(f"{source}: cannot be read: {error.strerror or error}") from None
        if path.is_dir() and not str(source.resolve()).startswith(top):
            outside.append(printable(dest))
    if new is not None:
        new.refuse_nothing(files, reference)
    data = _data(reference, "folder" if path.is_dir() else "file", reading, files, tuple(left_out))
    return replace(data, outside=tuple(outside))


def _checked(stream: BinaryIO, src: str, dest: str, shown: str, reading: _Reading) -> DataFile:
    rows = 0
    hashing = HashingStream(stream)
    buffered = io.BufferedReader(hashing, 1 << 17)
    if reading.recipe.data == "rows" and dest.lower().endswith(".parquet"):
        # Parquet is read from its end: its rows first, its sha256 in a second pass.
        if can_read_parquet() and stream.seekable():
            rows = _count_rows(io.BufferedReader(cast(Any, stream)), shown, reading)
            stream.seek(0)
        elif buffered.peek(4)[:4] != b"PAR1":
            raise UserError(f"{shown}: is no Parquet file")
    elif reading.recipe.data == "rows":
        rows = _count_rows(buffered, shown, reading)
    while buffered.read(1 << 20):
        pass
    return DataFile(src, dest, hashing.digest.hexdigest(), hashing.count, rows)


def _count_rows(stream: io.BufferedReader[Any], shown: str, reading: _Reading) -> int:
    rows = 0
    try:
        for _, row in read_rows(stream, shown, reading.judge):
            if isinstance(row, RowError):
                reading.note(user_error(row, shown))
                continue
            reading.forms[row.form] += 1
            reading.unused.update(row.unused)
            rows += 1
    except RowError as error:
        # The file cannot be read on: what was found so far is told with it.
        reading.note(user_error(error, shown))
        raise reading.stop(None) from None
    return rows


def user_error(error: RowError, shown: str) -> UserError:
    """Return a flaw of a file of rows as the error of a person's input."""
    return UserError(error.message, where=Location(shown, error.line, error.column, error.text), hint=error.hint)


def _data(
    reference: str,
    kind: Literal["file", "folder", "s3", "url"],
    reading: _Reading,
    files: list[DataFile],
    left_out: tuple[str, ...],
) -> Data:
    rows = sum(file.rows for file in files)
    if reading.flawed and not (reading.skip and rows):
        raise reading.stop(_SKIP if rows else None)
    form = " + ".join(sorted(reading.forms)) if reading.forms else None
    size, unused = sum(file.bytes for file in files), tuple(sorted(reading.unused))
    return Data(
        reference, kind, form, rows, size, tuple(files), left_out, skipped=reading.lines(), skipped_rows=reading.flawed, unused=unused
    )  # fmt: skip


def _left_out(names: list[str]) -> str | None:
    return f"Left out: {', '.join(names)}." if names else None
