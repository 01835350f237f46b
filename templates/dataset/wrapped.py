"""JSON files that are no list and no lines: an object around the list of rows, or objects that go over several lines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import rows
import talks

_LISTS = ("memories", "results", "data", "rows", "items", "records", "entries", "examples", "samples")
_OF_ROWS = frozenset(
    ("messages", "conversations", "prompt", "instruction", "text", "content", "memory", "chosen", "mapping", "chat_messages")
)
"""What has one of these is a row, whatever lists it holds beside."""


def is_one(stream: io.BufferedReader[Any]) -> bool:
    """Tell by its beginning whether a .json file is of this kind; nothing of it is used up."""
    start = stream.peek(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] != b"{":
        return False
    try:
        first = json.loads(start.partition(b"\n")[0])
    except ValueError:
        return True
    return _list_of(first) is not None or talks.is_telegram(first)


def read(stream: io.BufferedReader[Any], name: str) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of each row, holding no more than a row and a chunk. Raises rows.RowError."""
    rows.skip_mark(stream, name)
    text, empty = rows.JsonWindow(stream, name), True
    while sign := text.skip_blank():
        if sign != "{":
            raise text.error("not valid JSON: expected an object")
        for row in _object(text):
            empty = False
            yield row
    if empty:
        raise rows.RowError(name, 1, "no row in this file")


def _list_of(fields: Mapping[str, Any]) -> str | None:
    return next((name for name in _LISTS if isinstance(fields.get(name), list) and not _OF_ROWS & fields.keys()), None)


def _object(text: rows.JsonWindow) -> Iterator[tuple[int, Any]]:
    """Yield the rows of the list that an object holds, or the object itself where it holds none."""
    line, fields, listed, sign = text.line, dict[str, Any](), "", ","
    text.advance(1)
    if text.skip_blank() == "}":
        sign = "}"
        text.advance(1)
    while sign == ",":
        key = _key(text)
        if key in fields or key == listed:
            raise text.error(f"the key {json.dumps(key)} is given twice in one object")
        if key in _LISTS and text.skip_blank() == "[" and not _OF_ROWS & fields.keys():
            if listed:
                raise text.error(f"the object holds two lists of rows, {listed!r} and {key!r}: give each a file of its own")
            listed = key
            yield from text.items()
        else:
            fields[key] = text.item()
        sign = text.skip_blank()
        if sign not in (",", "}"):
            raise text.error("not valid JSON: expected ',' or '}' after a value")
        text.advance(1)
    if not listed:
        yield line, fields
    elif row := _OF_ROWS & fields.keys():
        raise text.error(f"the object holds rows in {listed!r} and is a row itself, with {min(row)!r}")


def _key(text: rows.JsonWindow) -> str:
    if text.skip_blank() != '"':
        raise text.error("not valid JSON: expected the name of a field in double quotes")
    key = text.item()
    if text.skip_blank() != ":":
        raise text.error("not valid JSON: expected ':' after the name of a field")
    text.advance(1)
    text.skip_blank()
    return str(key)
