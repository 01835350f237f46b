"""Read training rows from files. Travels in the bundle: standard library only, Python >= 3.10; forms.py says what a row means.

One implementation on both sides: the controller validates with it before anything is rented, the training
script reads with it on the pod. Files are read as streams, never whole. Every flaw is a RowError with its line.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import importlib.util
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
LIMIT = 64 << 20  # of one row: what is larger is a broken file, and would fill the memory
_CHUNK = 1 << 18
_LIST_OR_LINES = "; a .json file holds a list of rows, or one row in each line (invoke data.build FILE --to rows.jsonl makes such a file)"
_BLANK = re.compile(r"[ \t\r\n]*")


_INSTEAD = {
    ".gz .bz2 .xz .zst .zip .tar .tgz .7z .rar": "Unpack it first (gunzip FILE, unzip FILE).",
    ".xlsx .xls .ods .numbers": "Save the sheet as CSV in UTF-8, with the names of the columns in its first line.",
    ".docx .doc .odt .rtf .epub .html .htm": "Save it as Markdown, which invoke data.build reads: pandoc FILE -o NEW.md.",
    ".pdf": "Save it as text, which invoke data.build reads: pdftotext FILE.",
    ".ipynb": "Save it as Markdown, which invoke data.build reads: jupyter nbconvert --to markdown FILE.",
    ".sqlite .sqlite3 .db": "Write a table as CSV: sqlite3 -header -csv FILE 'select * from NAME' > NEW.csv.",
    ".yaml .yml .xml .arrow .pkl .npz": "Write its rows as JSON Lines, one object a line.",
}
"""How files that people have are brought into a form that is read."""


class RowError(Exception):
    """A flaw of a data file, with its place (line and column from 1)."""

    def __init__(self, name: str, line: int, message: str, column: int = 1, text: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(f"{name}:{line}:{column}: {message}")
        self.name, self.line, self.column, self.message, self.text, self.hint = name, line, column, message, text, hint


def unknown_suffix(name: str) -> RowError | None:
    """Return the error for a file whose name does not say how to read it, None for one that does."""
    suffix = PurePath(name).suffix.lower()
    if suffix in SUFFIXES:
        return None
    instead = next((f"{text} " for endings, text in _INSTEAD.items() if suffix in endings.split()), "")
    hint = f"{instead}Put files that are not data elsewhere, or name the data file itself."
    return RowError(name, 1, "cannot tell how to read it: the name must end in " + ", ".join(SUFFIXES), hint=hint)


def hub_files(input_dir: str, split: str | None = None) -> list[str]:
    """Return the files of rows of a data set of the Hub: those of the split, unless one is asked for the training split's, else all."""
    names: list[str] = []
    for root, folders, files in os.walk(os.path.join(input_dir, "hub")):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        below = PurePath(root).relative_to(input_dir)
        names += [str(below / name) for name in files if name.endswith(SUFFIXES) and not name.startswith("dataset_info")]
    of_split = re.compile(rf"(?:^|[/_.-]){re.escape(split or 'train')}(?:[/_.-]|$)", re.IGNORECASE)
    chosen = sorted([name for name in names if of_split.search(name.removeprefix("hub/"))] or ([] if split else names))
    if split and not chosen:
        fetched = ", ".join(sorted(names)[:10]) or "none"
        raise RowError("hub", 1, f"the data set has no file of split '{split}': fetched are {fetched}")
    return chosen


def read_rows(stream: io.BufferedReader[Any], name: str, understand: Callable[[Any], Any]) -> Iterator[tuple[int, Any]]:
    """Yield (line, what ``understand`` makes of the row) for each row of one file.

    ``name`` says by its suffix how to read it and is what errors call it. A row that cannot be read, or of which
    ``understand`` raises ValueError, is yielded as its RowError; where the file cannot be read on, RowError is raised.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix == ".parquet":
        rows = _parquet(stream, name)
    elif suffix in (".csv", ".tsv"):
        rows = _csv(stream, name, "\t" if suffix == ".tsv" else ",")
    elif suffix in SUFFIXES:
        rows = _json(stream, name, array_allowed=suffix == ".json")
    else:
        raise unknown_suffix(name) or AssertionError(suffix)
    empty = True
    for line, fields in rows:
        empty = False
        if isinstance(fields, RowError):
            yield line, fields
            continue
        try:
            row = understand(fields)
        except (ValueError, RecursionError) as error:
            row = RowError(name, line, str(error))
        yield line, row
    if empty:
        raise RowError(name, 1, "no row in this file")


def _json(stream: io.BufferedReader[Any], name: str, *, array_allowed: bool) -> Iterator[Any]:
    skip_mark(stream, name)
    if array_allowed and stream.peek(1 << 16).lstrip()[:1] == b"[":
        return _array(stream, name)
    return _lines(stream, name, _LIST_OR_LINES if array_allowed else "")


def _lines(stream: io.BufferedReader[Any], name: str, advice: str) -> Iterator[Any]:
    """Yield (line, value or RowError) of JSON Lines; blank lines are skipped. ``advice`` is for a file that begins as another kind."""
    for number, raw in _raw_lines(stream, name):
        if not raw.strip():
            continue
        try:
            value = _value(_decoded(raw, name, number).rstrip("\r\n"), name, number, advice)
        except RowError as error:
            if advice:
                raise
            value = error
        advice = ""
        yield number, value


def _value(line: str, name: str, number: int, advice: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        if (
            advice and line.lstrip()[:1] == "{" and error.pos >= len(line.rstrip())
        ):  # an object over several lines: right as JSON, and no row
            raise RowError(name, number, f"the file begins with an object that goes on in the next line{advice}", 1, line) from None
        raise RowError(name, number, f"not valid JSON: {error.msg}{advice}", error.colno, line) from None
    except (ValueError, RecursionError) as error:
        raise RowError(name, number, f"not valid JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raises ValueError for a key that is given twice: nobody knows which of its values is meant."""
    unique = dict(pairs)
    if len(unique) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = json.dumps(next(key for key in keys if keys.count(key) > 1))
        raise ValueError(f"the key {twice} is given twice in one object")
    return unique


def _array(stream: io.BufferedReader[Any], name: str) -> Iterator[Any]:
    """Yield (line, value) of the items of one JSON list, holding no more than an item and a chunk."""
    text = JsonWindow(stream, name)
    text.skip_blank()
    yield from text.items()
    if text.skip_blank():
        raise text.error("not valid JSON: more text after the end of the list")


class JsonWindow:
    """The part of a JSON text that is being read; knows the line it starts in."""

    def __init__(self, stream: io.BufferedReader[Any], name: str) -> None:
        self._stream, self._name = stream, name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(object_pairs_hook=_unique)
        self._text, self._at, self._ended = "", 0, False
        self.line = 1

    def error(self, message: str, at: int | None = None) -> RowError:
        """Return the error for a place in the window."""
        at = self._at if at is None else at
        begin = self._text.rfind("\n", 0, at) + 1
        end = self._text.find("\n", at)
        shown = self._text[begin : end if end >= 0 else None]
        line = self.line + self._text.count("\n", self._at, at)
        return RowError(self._name, line, message, at - begin + 1, shown if len(shown) < 200 else None)

    def skip_blank(self) -> str:
        """Move to the next sign that is not blank and return it, an empty text at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self.advance(blank.end() - self._at if blank else 0)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def advance(self, count: int) -> None:
        """Move on, counting lines."""
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def item(self) -> Any:
        """Decode the value that begins here."""
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Near the end of the window the value is only cut off; anywhere else it is wrong.
                cut = error.pos > len(self._text) - 16 or error.msg.startswith("Unterminated string")
                if not cut or not self._more():
                    raise self.error(f"not valid JSON: {error.msg}", min(error.pos, len(self._text))) from None
                continue
            except (ValueError, RecursionError) as error:
                raise self.error(f"not valid JSON: {error}") from None
            if end < len(self._text) or not self._more():
                self.advance(end - self._at)
                return value

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield (line, value) of the list that begins here, and move behind it."""
        self.advance(1)  # the bracket
        first = True
        while True:
            sign = self.skip_blank()
            if sign == "]" or (not first and sign not in (",", "")):
                break
            if not first:
                self.advance(1)
                sign = self.skip_blank()
            if not sign or sign == "]":
                raise self.error("not valid JSON: the list ends here without %s" % ("a row after ','" if sign else "']'"))
            first = False
            line = self.line
            yield line, self.item()
        if self.skip_blank() != "]":
            raise self.error("not valid JSON: expected ',' or ']' after a row")
        self.advance(1)

    def _more(self) -> bool:
        if self._ended:
            return False
        if len(self._text) - self._at > LIMIT:
            raise self.error(f"this row is longer than {LIMIT >> 20} MiB")
        # As much again as the row already holds, so that a long row costs few attempts.
        chunk = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not chunk
        try:
            more = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            line = self.line + self._text.count("\n", self._at) + error.object.count(b"\n", 0, error.start)
            raise RowError(self._name, line, _not_utf8(error)) from None
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)


def _csv(stream: io.BufferedReader[Any], name: str, delimiter: str) -> Iterator[Any]:
    csv.field_size_limit(LIMIT)
    lines = (line for _, line in text_lines(stream, name))
    head = next(lines, "")
    if delimiter not in head:  # as tables are saved where the comma stands in numbers
        delimiter = next((sign for sign in ";\t" if sign in head), delimiter)
    reader = csv.reader(itertools.chain([head] if head else [], lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for record in reader:
            if header is None:
                header = [cell.strip() for cell in record]
                if len(set(header)) < len(header):
                    raise RowError(name, line, "a column's name is given twice: {}".format(", ".join(header)))
            elif record:
                if len(record) != len(header):
                    yield line, RowError(name, line, f"{len(record)} columns, but the first line names {len(header)}")
                else:
                    yield line, {key: cell for key, cell in zip(header, record, strict=True) if key}
            line = reader.line_num + 1
    except csv.Error as error:
        raise RowError(name, line, f"not valid CSV: {error}") from None


def text_lines(stream: io.BufferedReader[Any], name: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of a file; raises RowError where it is no UTF-8."""
    skip_mark(stream, name)
    for number, raw in _raw_lines(stream, name):
        yield number, _decoded(raw, name, number)


def _raw_lines(stream: io.BufferedReader[Any], name: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while raw := stream.readline(LIMIT + 1):
        number += 1
        if len(raw) > LIMIT:
            raise RowError(name, number, f"this line is longer than {LIMIT >> 20} MiB")
        yield number, raw


def _decoded(raw: bytes, name: str, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(name, number, _not_utf8(error), error.start + 1) from None


def can_read_parquet() -> bool:
    """Tell whether pyarrow is installed here."""
    return importlib.util.find_spec("pyarrow") is not None


def _parquet(stream: io.BufferedReader[Any], name: str) -> Iterator[Any]:
    if not can_read_parquet():
        raise RowError(
            name, 1, "Parquet is read by pyarrow, which this Python does not have: install it, or convert the file to JSON Lines"
        )
    parquet = importlib.import_module("pyarrow.parquet")
    number = 0
    try:
        for batch in parquet.ParquetFile(stream).iter_batches(batch_size=1000):
            for fields in batch.to_pylist():
                number += 1
                yield number, {name: _without_nulls(value) for name, value in fields.items()}
    except (OSError, ValueError, NotImplementedError) as error:
        raise RowError(name, number + 1, f"not valid Parquet: {error}") from None


def _without_nulls(value: Any) -> Any:
    """Return a value without the nulls inside objects: Arrow gives each of them every key of the whole column."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def skip_mark(stream: io.BufferedReader[Any], name: str) -> None:
    """Move behind the mark that may begin a text of UTF-8; raises RowError for what is no such text."""
    start = stream.peek(4)
    for mark, encoding in ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16")):
        if start.startswith(mark):
            raise RowError(name, 1, f"this is {encoding} text; save it as UTF-8 (iconv -f {encoding} -t UTF-8 FILE > NEW)")
    if start[:2] == b"\x1f\x8b" or start[:4] == b"PK\x03\x04":
        raise RowError(name, 1, "this is a compressed file; unpack it first")
    if start.startswith(codecs.BOM_UTF8):
        stream.read(3)


def _not_utf8(error: UnicodeDecodeError) -> str:
    byte = error.object[error.start]
    return f"not UTF-8: byte 0x{byte:02x} cannot stand here; save the file as UTF-8 (from Windows: iconv -f CP1252 -t UTF-8 FILE > NEW)"
