"""References to data: what is found, what is left out, what is refused, and the sha256 of each file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipes.conftest import COUNT, ROOT
from trainyard.errors import UserError
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.data import BucketFile, hub_reference, inspect

LORA, COMMAND = load_recipe(ROOT, "lora"), load_recipe(ROOT, "command")
ROW = json.dumps({"prompt": "a", "completion": "b"}) + "\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_without_data_the_recipe_trains_on_its_own_sample() -> None:
    data = inspect(None, LORA)
    assert (data.kind, data.form, data.rows) == ("file", "instruction/input/output", 200)
    assert data.describe().startswith("sample.jsonl: 200 rows of instruction/input/output, ")


def test_the_sample_is_what_its_generator_writes() -> None:
    made = subprocess.run([sys.executable, ROOT / "templates/lora/make_sample.py"], capture_output=True, check=True)
    assert made.stdout == (ROOT / "templates/lora/sample.jsonl").read_bytes()


def test_a_file_is_named_with_its_form_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(ROW * 3)
    data = inspect(str(tmp_path / "d.jsonl"), LORA)
    [file] = data.files
    assert (file.src, file.dest, file.sha256, file.rows) == (str(tmp_path / "d.jsonl"), "d.jsonl", sha256(ROW * 3), 3)
    assert data.summary().files[0].sha256 == file.sha256 and data.bytes == len(ROW) * 3


def test_a_folder_is_all_its_files_but_hidden_ones_and_readmes(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/c.jsonl", ".env", ".git/x.jsonl", "README.md", "LICENSE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(ROW)
    (tmp_path / "d.csv").write_text("text\nx\n")
    data = inspect(str(tmp_path), LORA)
    assert [file.dest for file in data.files] == ["b.jsonl", "d.csv", "a/c.jsonl"]
    assert (data.kind, data.rows, data.form) == ("folder", 3, "prompt/completion + text")
    assert set(data.left_out) == {".env", ".git", "README.md", "LICENSE"} and ".env" in data.describe()


def test_a_folder_of_any_files_serves_a_recipe_that_asks_for_no_rows(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    data = inspect(str(tmp_path), COMMAND)
    assert (data.form, data.rows, data.files[0].dest) == (None, 0, "cat.png")
    assert inspect(None, COMMAND).kind == "none"


def test_a_flaw_in_one_file_of_a_folder_names_file_line_and_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(ROW)
    (tmp_path / "b.jsonl").write_text(ROW + '{"text": }\n')
    with pytest.raises(UserError, match="not valid JSON") as caught:
        inspect(str(tmp_path), LORA)
    assert str(caught.value.where) == f"{tmp_path}/b.jsonl:2:10"
    assert '  {"text": }\n' in str(caught.value)


def test_all_flawed_rows_are_told_at_once_with_their_lines_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    bad = json.dumps({"prompt": "a", "completion": ""}) + "\n"
    path.write_text(ROW + bad + "{\n" + ROW + bad * 20 + json.dumps({"messages": [], "label": True}) + "\n")
    with pytest.raises(UserError) as caught:
        inspect(str(path), LORA)
    told = str(caught.value)
    assert str(caught.value.where).endswith("d.jsonl:2:1") and "23 rows are flawed, 2 are not" in told
    assert f"21 rows ({path}:2, 5, 6, 7, 8, ...): this" in told and told.count("'completion' is empty") == 1
    assert f"{path}:3: not valid JSON" in told and f"{path}:25: 'label' compares" in told and "--set on_bad_row=skip" in told


def test_flawed_rows_can_be_skipped_but_not_all_of_them_nor_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(ROW + "{}\n" + ROW)
    data = inspect(str(path), LORA, values={"on_bad_row": "skip"})
    assert (data.rows, data.skipped_rows, data.summary().skipped_rows) == (2, 1, 1)
    assert "1 flawed rows are skipped" in data.remarks()[0] and f"{path}:2: the row fits no known form" in data.remarks()[1]
    path.write_text("{}\n")
    with pytest.raises(UserError, match="fits no known form"):
        inspect(str(path), LORA, values={"on_bad_row": "skip"})
    (tmp_path / "d.json").write_text('[{"text": "a"}, {"text": }]')
    with pytest.raises(UserError, match="not valid JSON"):
        inspect(str(tmp_path / "d.json"), LORA, values={"on_bad_row": "skip"})


def test_columns_that_are_not_used_are_named_and_refused_ones_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"text": "a", "source": "web", "label": True}) + "\n")
    with pytest.raises(UserError, match="'label' compares"):
        inspect(str(path), LORA)
    assert inspect(str(path), LORA, values={"ignore_columns": ["label"]}).remarks() == ["not used: source"]


def test_parquet_without_pyarrow_is_left_to_the_pod_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.recipes.data.can_read_parquet", lambda: False)
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1 rest PAR1")
    data = inspect(str(path), LORA)
    assert data.files[0].sha256 == sha256("PAR1 rest PAR1") and data.rows == 0
    assert "checked on the pod" in data.remarks()[0]
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="is no Parquet file"):
        inspect(str(path), LORA)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("/nonexistent/d.jsonl", "no such file or folder"),
        ("ftp://x/y", "'ftp://' is not known"),
        ("s3://b/k", "only the pod of a run fetches it"),
        ("hf://nobody", "write hf://owner/name"),
        ("/dev/null", "no regular file"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        inspect(reference, LORA)


def test_an_empty_folder_and_a_foreign_file_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no data file"):
        inspect(str(tmp_path), LORA)
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(UserError, match=r"must end in \.jsonl") as caught:
        inspect(str(tmp_path), LORA)
    assert "Put files that are not data elsewhere" in (caught.value.hint or "")


def test_objects_of_a_bucket_are_checked_like_files() -> None:
    def resolver(reference: str) -> list[BucketFile]:
        assert reference == "s3://b/set/"
        return [BucketFile("s3://b/set/x.jsonl", "x.jsonl", len(ROW), lambda: io.BytesIO(ROW.encode()))]

    data = inspect("s3://b/set/", LORA, resolver)
    assert (data.kind, data.rows, data.files[0].sha256, data.files[0].src) == ("s3", 1, sha256(ROW), "s3://b/set/x.jsonl")

    bad = BucketFile("s3://b/set/x.jsonl", "x.jsonl", 1, lambda: io.BytesIO(b"{}\n"))
    with pytest.raises(UserError, match="fits no known form") as caught:
        inspect("s3://b/set/", LORA, lambda _: [bad])
    assert str(caught.value.where) == "s3://b/set/: x.jsonl:1:1"
    with pytest.raises(UserError, match="nothing is there"):
        inspect("s3://b/set/", LORA, lambda _: [])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.jsonl", "/escaped.jsonl"], "'/escaped.jsonl': its name has an empty"),
        (["a.jsonl", "../up.jsonl"], "'../up.jsonl': its name has an empty, '.' or '..' part"),
        (["x//y.jsonl"], "'x//y.jsonl': its name has an empty"),
        (["x", "x/y"], "'x' is an object and 'x/y' lies below it"),
        (["new\nline"], "'new\\nline': its name has a control character"),
        ([".hidden", ".sources.json"], "no data file is there"),
    ],
)
def test_keys_that_would_not_lie_below_input_are_refused_by_name(names: list[str], words: str) -> None:
    found = [BucketFile(f"s3://b/set/{name}", name, 1, lambda: io.BytesIO(b"x")) for name in names]
    with pytest.raises(UserError, match=re.escape(words)):
        inspect("s3://b/set/", COMMAND, lambda _: found)


def test_linked_folders_inside_are_followed_and_others_refused_by_name(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    for folder in (data / "real", outside):
        folder.mkdir(parents=True)
        (folder / "x.txt").write_text("x")
    (data / "linked").symlink_to("real")
    (data / "file.txt").symlink_to(outside / "x.txt")
    seen = inspect(str(data), COMMAND)
    assert sorted(file.dest for file in seen.files) == ["file.txt", "linked/x.txt", "real/x.txt"]
    assert seen.describe() == "3 files: 3 B (by links out of the folder: file.txt)"
    for target, words in (
        (outside, "a folder outside"),
        (data, "a folder it lies in"),
        ("absent", "nothing"),
    ):
        (data / "odd").symlink_to(target)
        with pytest.raises(UserError, match=f"data/odd: is a link to {words}"):
            inspect(str(data), COMMAND)
        (data / "odd").unlink()


def test_what_is_no_regular_file_or_has_an_impossible_name_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for reference in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="pipe: is no regular file"):
            inspect(str(reference), COMMAND)
    (tmp_path / "pipe").unlink()
    (tmp_path / "new\nline").write_text("x")
    with pytest.raises(UserError, match="control character"):
        inspect(str(tmp_path), COMMAND)


@pytest.mark.parametrize(
    ("text", "repo", "revision", "path", "split"),
    [
        ("hf://owner/name", "owner/name", None, None, None),
        ("hf://datasets/owner/name", "owner/name", None, None, None),
        ("hf://owner/name@v1.0", "owner/name", "v1.0", None, None),
        ("hf://owner/name@main/data/train.jsonl", "owner/name", "main", "data/train.jsonl", None),
        ("hf://owner/name:test", "owner/name", None, None, "test"),
        ("hf://owner/name@v1?split=train_sft", "owner/name", "v1", None, "train_sft"),
        ("hf://owner/na.me/en:validation", "owner/na.me", None, "en", "validation"),
    ],
)
def test_a_data_set_of_the_hub_is_a_reference_for_the_pod(
    text: str, repo: str, revision: str | None, path: str | None, split: str | None
) -> None:
    assert hub_reference(text) == {"repo": repo, "revision": revision, "path": path, "split": split}
    assert inspect(text, LORA).describe() == f"{text}, loaded and checked on the pod"


def test_data_for_a_recipe_that_takes_none_is_refused(small: Recipe) -> None:
    with pytest.raises(UserError, match="takes no --data"):
        inspect(str(COUNT), small)
