"""Rows of every form and file type; every flaw with its line; streams, not whole files."""

from __future__ import annotations

import importlib.util
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard.recipes import rows
from trainyard.recipes.forms import understand
from trainyard.recipes.rows import RowError, read_rows


def read(data: bytes | str, name: str = "data.jsonl", judge: Callable[..., Any] = lambda fields: fields) -> list[Any]:
    """Return (line, row) of every row; the first flaw is raised."""
    raw = data if isinstance(data, bytes) else data.encode()
    found = list(read_rows(io.BufferedReader(io.BytesIO(raw)), name, judge))
    for _, row in found:
        if isinstance(row, RowError):
            raise row
    return found


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson"])
def test_json_lines_keep_their_line_numbers_over_blank_lines(name: str) -> None:
    assert [(line, row["text"]) for line, row in read('\n{"text": "a"}\r\n\n{"text": "b"}', name)] == [(2, "a"), (4, "b")]


def test_a_json_list_keeps_the_line_each_row_starts_in() -> None:
    text = '\ufeff [\n {"text": "a",\n  "n": 1}\n,\n {"text": "b"} ]\n'
    assert [(line, row["text"]) for line, row in read(text, "a.json")] == [(2, "a"), (5, "b")]


def test_csv_with_quotes_line_breaks_and_a_byte_order_mark() -> None:
    text = '\ufeffinstruction,input,output\r\n"say ""hi""\nand go",,"hi, there"\r\nx,y,z\r\n'
    assert [(line, row["instruction"], row["output"]) for line, row in read(text, "a.csv")] == [
        (2, 'say "hi"\nand go', "hi, there"),
        (4, "x", "z"),
    ]
    assert read("prompt\tcompletion\na\tb\n", "a.tsv") == [(2, {"prompt": "a", "completion": "b"})]


FLAWS: dict[str, tuple[str, Any, int, int, str]] = {
    "broken JSON": ("a.jsonl", '{"text": "a"}\n{"text": }\n', 2, 10, "not valid JSON"),
    "a key twice": ("a.jsonl", '{"text": "a"}\n{"text": "b", "text": "c"}', 2, 1, 'the key "text" is given twice'),
    "a key twice in a list": ("a.json", '[{"text": "a"},\n{"text": "b", "text": "c"}]', 2, 1, 'the key "text" is given twice'),
    "a cut line": ("a.jsonl", '{"text": "a"}\n{"text": "b', 2, 10, "Unterminated"),
    "a pretty-printed object": ("a.json", '{\n "text": "a"\n}\n', 1, 1, "one row in each line"),
    "a list within an object": ("a.json", '{"data": [\n {"text": "a"}\n]}\n', 1, 1, "begins with an object that goes on in the next line"),
    "a broken first line": ("a.json", '{"text": }\n{"text": "a"}\n', 1, 10, "not valid JSON: Expecting value"),
    "no form": ("a.jsonl", '{"text": "a"}\n{"question": "b", "answer": "c"}\n', 2, 1, "it has answer, question"),
    "half a form": ("a.jsonl", '{"instruction": "b"}\n', 1, 1, "'instruction' but no 'output'"),
    "the other half": ("a.jsonl", '{"completion": "b"}\n', 1, 1, "'completion' but no 'prompt'"),
    "a number for text": ("a.jsonl", '{"text": 5}\n', 1, 1, "'text' must be text, not a number"),
    "an input that is a list": ("a.jsonl", '{"instruction": "a", "input": ["b"], "output": "c"}\n', 1, 1, "'input' must be text"),
    "an empty answer": ("a.jsonl", '{"instruction": "a", "output": " "}\n', 1, 1, "'output' is empty"),
    "a list for a row": ("a.jsonl", "[1]\n", 1, 1, "must be an object"),
    "no answer in a conversation": ("a.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', 1, 1, "nothing to learn"),
    "a role nobody knows": ("a.jsonl", '{"messages": [{"role": "bot", "content": "a"}]}\n', 1, 1, "message 1 has role 'bot'"),
    "a message without content": ("a.jsonl", '{"messages": [{"role": "user"}]}\n', 1, 1, "message 1 must have"),
    "half a surrogate": ("a.jsonl", '{"text": "\\ud83d"}\n', 1, 1, "surrogate"),
    "an empty file": ("a.jsonl", "", 1, 1, "no row"),
    "blank lines only": ("a.jsonl", "\n\n", 1, 1, "no row"),
    "an empty list": ("a.json", "[ ]", 1, 1, "no row"),
    "UTF-16": ("a.jsonl", '{"text": "a"}'.encode("utf-16"), 1, 1, "UTF-16"),
    "Latin-1": ("a.jsonl", '{"text": "a"}\n{"text": "é"}'.encode("latin-1"), 2, 11, "byte 0xe9"),
    "Latin-1 in a list": ("a.json", '[{"text": "a"},\n\n{"text": "é"}]'.encode("latin-1"), 3, 1, "byte 0xe9"),
    "a gzip file": ("a.jsonl", b"\x1f\x8b\x08rest", 1, 1, "compressed"),
    "an unknown ending": ("notes.docx", "x", 1, 1, "must end in"),
    "a list cut off": ("a.json", '[{"text": "a"},\n', 2, 1, "without"),
    "a list cut in a row": ("a.json", '[{"text": "a"},\n{"text": "b"', 2, 13, "not valid JSON"),
    "a list not closed": ("a.json", '[{"text": "a"}\n', 2, 1, "without ']'"),
    "a comma too many": ("a.json", '[{"text": "a"},\n]', 2, 1, "without"),
    "a comma too few": ("a.json", '[{"text": "a"}\n{"text": "b"}]', 2, 1, "expected"),
    "text behind a list": ("a.json", '[{"text": "a"}]\nmore', 2, 1, "more text"),
    "a flaw in a list": ("a.json", '[{"text": "a"},\n{"text": nope}, {"text": "' + "x" * 100 + '"}]', 2, 10, "not valid JSON"),
    "too few columns": ("a.csv", "text,id\na,1\nb\n", 3, 1, "1 columns, but the first line names 2"),
    "a column twice": ("a.csv", "text,text\na,b\n", 1, 1, "given twice"),
    "an open quote": ("a.csv", 'text\n"a\n', 2, 1, "not valid CSV"),
    "only a header": ("a.csv", "text\n", 1, 1, "no row"),
    "deep nesting": ("a.jsonl", '{"text": ' + "[" * 100000, 1, 1, "not valid JSON"),
}


@pytest.mark.parametrize("case", FLAWS)
def test_a_flaw_is_told_with_its_place(case: str) -> None:
    name, text, line, column, message = FLAWS[case]
    with pytest.raises(RowError) as caught:
        read(text, name, understand)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_flawed_row_is_told_and_the_next_ones_are_read() -> None:
    text = '{"text": "a"}\n{"text": }\n["b"]\n\xff\n{"text": "c"}\n'.encode("latin-1")
    found = list(read_rows(io.BufferedReader(io.BytesIO(text)), "a.jsonl", understand))
    assert [line for line, row in found if isinstance(row, RowError)] == [2, 3, 4]
    assert [row.answer for _, row in found if not isinstance(row, RowError)] == ["a", "c"]

    table = b"text,id\na,1\nb\nc,3\n"
    found = list(read_rows(io.BufferedReader(io.BytesIO(table)), "a.csv", understand))
    assert [isinstance(row, RowError) for _, row in found] == [False, True, False]


def test_parquet_is_refused_by_name_where_pyarrow_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RowError, match="pyarrow, which this Python does not have"):
        read(b"PAR1", "a.parquet")


def test_parquet_gives_an_object_only_the_keys_that_its_row_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow gives every object all keys of the column; pyarrow is no package of the tests, so it is played."""
    call = {"arguments": {"town": "Ulm", "zone": None}}
    row = {"messages": [{"content": "a", "calls": [call]}, {"content": "b", "calls": None}], "id": None}
    batch = SimpleNamespace(to_pylist=lambda: [row])
    played = SimpleNamespace(ParquetFile=lambda stream: SimpleNamespace(iter_batches=lambda batch_size: [batch]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: played)
    monkeypatch.setattr(importlib, "import_module", lambda name: played)
    messages = [{"content": "a", "calls": [{"arguments": {"town": "Ulm"}}]}, {"content": "b"}]
    assert read(b"PAR1", "a.parquet") == [(1, {"messages": messages, "id": None})]


def test_a_row_larger_than_the_limit_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LIMIT", 1000)
    monkeypatch.setattr(rows, "_CHUNK", 100)
    long = '{"text": "' + "x" * 5000 + '"}'
    with pytest.raises(RowError, match="longer than"):
        read('{"text": "a"}\n' + long)
    with pytest.raises(RowError, match="longer than"):
        read("[" + long + "]", "a.json")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)

ANY = st.recursive(st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=4)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.fixed_dictionaries({"text": TEXT, "n": ANY}), min_size=1, max_size=6),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_a_list_read_in_chunks_of_any_size_gives_what_json_gives(
    found: list[Any], chunk: int, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(found, indent=indent, ensure_ascii=ascii_only)
    saved, rows._CHUNK = rows._CHUNK, chunk
    try:
        read_back = read(text, "a.json")
    finally:
        rows._CHUNK = saved
    assert [row for _, row in read_back] == found
    lines = text.split("\n")
    assert all("{" in lines[line - 1] for line, _ in read_back)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_large_file_is_read_in_little_memory(tmp_path: Path, name: str) -> None:
    row = json.dumps({"instruction": "x" * 300, "output": "y" * 300})
    path = tmp_path / name
    with path.open("w") as out:
        out.write("[" if name == "a.json" else "")
        for number in range(12_000):
            out.write((",\n" if name == "a.json" else "\n") if number else "")
            out.write(row)
        out.write("]" if name == "a.json" else "\n")
    assert path.stat().st_size > 7 << 20
    tracemalloc.start()
    with path.open("rb") as stream:
        count = sum(1 for _ in read_rows(stream, name, understand))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 12_000
    assert peak < 4 << 20
