"""Only data that an earlier run has not had: files by their bytes, added rows, objects by key and ETag."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.sources import ROOT
from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import BucketFile, Data, inspect
from trainyard.recipes.since import EarlierData, NothingNew

LORA = load_recipe(ROOT, "lora")


def row(text: str) -> str:
    return f'{{"prompt": "{text}", "completion": "{text}"}}\n'


def earlier(data: Data, folder: Path) -> EarlierData:
    return EarlierData("ann/first/1", data.there or data.files, folder / "since")


def names(data: Data) -> list[str]:
    return [file.dest for file in data.files]


def test_of_a_folder_the_files_are_taken_whose_bytes_were_not_there_and_the_run_after_that_knows_all_of_them(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    for name in "ab":
        (rows / f"{name}.jsonl").write_text(row(name))
    first = inspect(str(rows), LORA)
    (rows / "c.jsonl").write_text(row("c") + row("d"))
    (rows / "a.jsonl").rename(rows / "renamed.jsonl")
    second = inspect(str(rows), LORA, earlier=earlier(first, tmp_path))

    assert names(second) == ["c.jsonl"] and second.rows == 2 and second.since == "ann/first/1"
    assert second.describe().endswith("(new since ann/first/1)") and len(second.summary().there) == 3
    with pytest.raises(NothingNew, match=r"nothing is new since ann/first/1 \(files that are as they were: 3\)") as told:
        inspect(str(rows), LORA, earlier=earlier(second, tmp_path))
    assert told.value.exit_code == 3
    (rows / "b.jsonl").write_text(row("other"))
    assert names(inspect(str(rows), LORA, earlier=earlier(second, tmp_path))) == ["b.jsonl"]


def test_of_a_file_that_grew_the_added_rows_are_taken_and_one_that_was_changed_is_taken_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(row("a") + row("b"))
    first = inspect(str(file), LORA)
    file.write_text(file.read_text() + row("c"))
    grown = inspect(str(file), LORA, earlier=earlier(first, tmp_path))
    file.write_text(file.read_text() + row("d") + row("e"))
    again = inspect(str(file), LORA, earlier=earlier(grown, tmp_path))

    assert Path(grown.files[0].src).read_text() == row("c") and (names(grown), grown.rows) == (["rows.jsonl"], 1)
    assert Path(again.files[0].src).read_text() == row("d") + row("e") and again.rows == 2 and not again.outside
    file.write_text(file.read_text() + "\n\n")
    with pytest.raises(NothingNew):
        inspect(str(file), LORA, earlier=earlier(again, tmp_path))
    file.write_text(row("x") + file.read_text())
    assert inspect(str(file), LORA, earlier=earlier(again, tmp_path)).rows == 6

    file.write_text(row("a").rstrip("\n"))  # without an end of line the last row may have been cut, or go on
    cut = earlier(inspect(str(file), LORA), tmp_path)
    file.write_text(row("a") + row("b"))
    assert inspect(str(file), LORA, earlier=cut).rows == 1
    csv = tmp_path / "rows.csv"
    csv.write_text("prompt,completion\na,b\n")
    table = earlier(inspect(str(csv), LORA), tmp_path)
    csv.write_text("prompt,completion\na,b\nc,d\n")
    assert inspect(str(csv), LORA, earlier=table).rows == 2, "its first line says how to read the others"


def test_of_a_bucket_objects_are_taken_whose_key_or_etag_is_new_and_no_other_is_read(tmp_path: Path) -> None:
    read: list[str] = []

    def item(name: str, etag: str) -> BucketFile:
        def content() -> io.BytesIO:
            read.append(name)
            return io.BytesIO(row(name).encode())

        return BucketFile(f"s3://b/rows/{name}", name, len(row(name)), content, etag=etag)

    first = inspect("s3://b/rows/", LORA, lambda _: [item("a.jsonl", "1"), item("b.jsonl", "2")])
    read.clear()
    second = inspect(
        "s3://b/rows/", LORA, lambda _: [item("a.jsonl", "1"), item("b.jsonl", "3"), item("c.jsonl", "4")], earlier=earlier(first, tmp_path)
    )
    assert names(second) == ["b.jsonl", "c.jsonl"] == read
    with pytest.raises(NothingNew):
        inspect("s3://b/rows/", LORA, lambda _: [item("a.jsonl", "1"), item("c.jsonl", "4")], earlier=earlier(second, tmp_path))


def test_of_the_hub_and_of_a_sample_nothing_tells_what_is_new(tmp_path: Path) -> None:
    for reference in ("hf://ann/rows", None):
        with pytest.raises(UserError, match=r"--since: of .* nothing tells what is new"):
            inspect(reference, LORA, earlier=EarlierData("ann/first/1", (), tmp_path))
