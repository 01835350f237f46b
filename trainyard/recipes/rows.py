"""Read training rows from files and name their form. Travels in the bundle: standard library only, Python >= 3.10.

One implementation on both sides: the controller validates with it before anything is rented, the training
script reads with it on the pod. Files are read as streams, never whole. Every flaw is a RowError with its line.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, NamedTuple

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
FORMS = ("messages", "prompt/completion", "instruction/input/output", "text")
ROLES = ("system", "user", "assistant", "tool", "developer")
LIMIT = 64 << 20  # of one row: what is larger is a broken file, and would fill the memory
_CHUNK = 1 << 18
_BLANK = re.compile(r"[ \t\r\n]*")

Messages = list[dict[str, str]]


class RowError(Exception):
    """A flaw of a data file, with its place (line and column from 1)."""

    def __init__(self, name: str, line: int, message: str, column: int = 1, text: str | None = None) -> None:
        super().__init__(f"{name}:{line}:{column}: {message}")
        self.name, self.line, self.column, self.message, self.text = name, line, column, message, text


class Row(NamedTuple):
    """One row as found: the line it starts in, its form and its fields."""

    line: int
    form: str
    fields: dict[str, Any]


def read_rows(stream: io.BufferedReader[Any], name: str) -> Iterator[Row]:
    """Yield the rows of one file; ``name`` says by its suffix how to read it and is what errors call it."""
    suffix = PurePath(name).suffix.lower()
    if suffix == ".parquet":
        found = _parquet(stream, name)
    elif suffix in (".csv", ".tsv"):
        found = _csv(stream, name, "\t" if suffix == ".tsv" else ",")
    elif suffix in SUFFIXES:
        found = _json(stream, name, array_allowed=suffix == ".json")
    else:
        raise RowError(name, 1, "cannot tell how to read it: the name must end in " + ", ".join(SUFFIXES))
    empty = True
    for line, fields in found:
        empty = False
        yield Row(line, form_of(fields, name, line), fields)
    if empty:
        raise RowError(name, 1, "no row in this file")


def form_of(fields: Any, name: str, line: int) -> str:
    """Return which of FORMS a row has. Raises RowError saying what is wrong or missing."""
    if not isinstance(fields, dict):
        raise RowError(name, line, f"a row must be an object {{...}}, not {_kind(fields)}")
    if fields.get("messages") is not None:
        _check_messages(fields["messages"], name, line)
        return FORMS[0]
    if fields.get("prompt") is not None and fields.get("completion") is not None:
        _check_texts(fields, ("prompt", "completion"), name, line)
        return FORMS[1]
    if fields.get("instruction") is not None and fields.get("output") is not None:
        _check_texts(fields, ("instruction", "output"), name, line)
        if not isinstance(fields.get("input") or "", str):
            raise RowError(name, line, "'input' must be text, not {}".format(_kind(fields["input"])))
        _check_encodable(fields.get("input") or "", "input", name, line)
        return FORMS[2]
    if fields.get("text") is not None:
        _check_texts(fields, ("text",), name, line)
        return FORMS[3]
    raise RowError(name, line, _no_form(fields))


def messages_of(row: Row) -> Messages | None:
    """Return a row as a conversation, None for the forms that are plain text."""
    if row.form == FORMS[0]:
        return [{"role": item["role"], "content": item["content"]} for item in row.fields["messages"]]
    if row.form == FORMS[2]:
        asked = row.fields["instruction"]
        if row.fields.get("input"):
            asked += "\n\n" + row.fields["input"]
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": row.fields["output"]}]
    return None


def _no_form(fields: dict[str, Any]) -> str:
    have = ", ".join(sorted(map(str, fields))[:8]) or "nothing"
    for first, second in (("instruction", "output"), ("prompt", "completion")):
        for has, lacks in ((first, second), (second, first)):
            if fields.get(has) is not None and fields.get(lacks) is None:
                return f"the row has '{has}' but no '{lacks}' (it has: {have})"
    return f"the row fits no known form: it has {have}; expected messages, prompt + completion, instruction + output (+ input), or text"


def _check_messages(found: Any, name: str, line: int) -> None:
    if not isinstance(found, list) or not found:
        raise RowError(name, line, f"'messages' must be a list of {{role, content}}, not {_kind(found)}")
    for number, item in enumerate(found, 1):
        if not isinstance(item, dict) or not isinstance(item.get("role"), str) or not isinstance(item.get("content"), str):
            raise RowError(name, line, f"message {number} must have 'role' and 'content' as text")
        if item["role"] not in ROLES:
            raise RowError(name, line, f"message {number} has role '{item['role']}'; known: {', '.join(ROLES)}")
        _check_encodable(item["content"], f"message {number}", name, line)
    if not any(item["role"] == "assistant" and item["content"].strip() for item in found):
        raise RowError(name, line, "no message of the assistant has content: there is nothing to learn in this row")


def _check_texts(fields: dict[str, Any], names: Any, name: str, line: int) -> None:
    for key in names:
        value = fields[key]
        if not isinstance(value, str):
            raise RowError(name, line, f"'{key}' must be text, not {_kind(value)}")
        _check_encodable(value, key, name, line)
    if not fields[names[-1]].strip():
        raise RowError(name, line, f"'{names[-1]}' is empty: there is nothing to learn in this row")


def _check_encodable(value: str, key: str, name: str, line: int) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(name, line, f"'{key}' holds half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None


def _json(stream: io.BufferedReader[Any], name: str, *, array_allowed: bool) -> Iterator[Any]:
    _skip_mark(stream, name)
    if array_allowed and stream.peek(1 << 16).lstrip()[:1] == b"[":
        return _array(stream, name)
    return _lines(stream, name, "; a .json file holds a list of rows, or one row in each line" if array_allowed else "")


def _lines(stream: io.BufferedReader[Any], name: str, advice: str) -> Iterator[Any]:
    """Yield (line, value) of JSON Lines; blank lines are skipped."""
    for number, line in _text_lines(stream, name):
        if line.strip():
            yield number, _value(line.rstrip("\r\n"), name, number, advice)


def _value(line: str, name: str, number: int, advice: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise RowError(name, number, f"not valid JSON: {error.msg}{advice}", error.colno, line) from None
    except (ValueError, RecursionError) as error:
        raise RowError(name, number, f"not valid JSON: {error}") from None


def _array(stream: io.BufferedReader[Any], name: str) -> Iterator[Any]:
    """Yield (line, value) of the items of one JSON list, holding no more than an item and a chunk."""
    text = _Window(stream, name)
    text.skip_blank()
    text.advance(1)  # the bracket
    first = True
    while True:
        sign = text.skip_blank()
        if sign == "]" or (not first and sign not in (",", "")):
            break
        if not first:
            text.advance(1)
            sign = text.skip_blank()
        if not sign or sign == "]":
            raise text.error("not valid JSON: the list ends here without %s" % ("a row after ','" if sign else "']'"))
        first = False
        line = text.line
        yield line, text.item()
    if text.skip_blank() != "]":
        raise text.error("not valid JSON: expected ',' or ']' after a row")
    text.advance(1)
    if text.skip_blank():
        raise text.error("not valid JSON: more text after the end of the list")


class _Window:
    """The part of a JSON text that is being read; knows the line it starts in."""

    def __init__(self, stream: io.BufferedReader[Any], name: str) -> None:
        self._stream, self._name = stream, name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()
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
    _skip_mark(stream, name)
    csv.field_size_limit(LIMIT)
    reader = csv.reader((line for _, line in _text_lines(stream, name)), delimiter=delimiter, strict=True)
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
                    raise RowError(name, line, f"{len(record)} columns, but the first line names {len(header)}")
                yield line, {key: cell for key, cell in zip(header, record, strict=True) if key}
            line = reader.line_num + 1
    except csv.Error as error:
        raise RowError(name, line, f"not valid CSV: {error}") from None


def _text_lines(stream: io.BufferedReader[Any], name: str) -> Iterator[tuple[int, str]]:
    number = 0
    while raw := stream.readline(LIMIT + 1):
        number += 1
        if len(raw) > LIMIT:
            raise RowError(name, number, f"this line is longer than {LIMIT >> 20} MiB")
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RowError(name, number, _not_utf8(error), error.start + 1) from None


def _parquet(stream: io.BufferedReader[Any], name: str) -> Iterator[Any]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise RowError(name, 1, "Parquet is read by pyarrow, which is not installed here; convert the file to JSON Lines") from None
    number = 0
    try:
        for batch in parquet.ParquetFile(stream).iter_batches(batch_size=1000):
            for fields in batch.to_pylist():
                number += 1
                yield number, fields
    except (OSError, ValueError) as error:
        raise RowError(name, number + 1, f"not valid Parquet: {error}") from None


def _skip_mark(stream: io.BufferedReader[Any], name: str) -> None:
    start = stream.peek(4)
    for mark, encoding in ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16")):
        if start.startswith(mark):
            raise RowError(name, 1, f"this is {encoding} text; save it as UTF-8")
    if start[:2] == b"\x1f\x8b" or start[:4] == b"PK\x03\x04":
        raise RowError(name, 1, "this is a compressed file; unpack it first")
    if start.startswith(codecs.BOM_UTF8):
        stream.read(3)


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{error.object[error.start]:02x} cannot stand here; save the file as UTF-8"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)
