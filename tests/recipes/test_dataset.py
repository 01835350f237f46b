"""A data set is built by the verb, in the environment of the recipe's lock: whole files, or none."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.dataset import build, lines, surroundings
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect

WORDS = (
    "river",
    "stone",
    "lamp",
    "garden",
    "winter",
    "engine",
    "letter",
    "market",
    "yellow",
    "quiet",
    "bridge",
    "apple",
    "harbour",
    "music",
)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return surroundings(tmp_path)


def said(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(40))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """100 rows of which 60 are alone, 20 the same as others and 20 nearly so; they get newer, and have tags."""
    draw = random.Random(5)
    rows: list[dict[str, Any]] = [{"prompt": f"Tell me number {at}: {said(draw)[:60]}", "completion": said(draw)} for at in range(60)]
    rows += [dict(row) for row in rows[:20]]
    rows += [{**row, "completion": row["completion"] + " again"} for row in rows[20:40]]
    rows = [{**row, "timestamp": 1.7e9 + at * 86_400, "tags": ["even" if at % 2 else "odd"]} for at, row in enumerate(rows)]
    path = tmp_path / "source.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"prompt": "never answered"}\n')
    return path


def test_duplicates_go_the_newest_stays_and_every_row_is_accounted_for(env: dict[str, str], source: Path, tmp_path: Path) -> None:
    told = build(
        env, str(source), "--to", str(tmp_path / "rows.jsonl"), "--set", "eval_share=0.1", "--set", "gradient_accumulation_steps=4"
    )
    rows, held = lines(tmp_path / "rows.jsonl"), lines(tmp_path / "rows.eval.jsonl")
    dropped, report = lines(tmp_path / "rows.dropped.jsonl"), json.loads((tmp_path / "rows.report.json").read_text())
    assert (len(rows), len(held), len(dropped), report["rows_read"]) == (54, 6, 41, 101)
    assert report["dropped"] == {"duplicate": 20, "nearly a duplicate": 20, "flawed": 1}
    assert {"place": "source.jsonl:1", "reason": "duplicate", "kept": "source.jsonl:61"} in dropped
    assert dropped[0]["place"] == "source.jsonl:101" and "no 'completion'" in dropped[0]["flaw"] and "source.jsonl:101" in told
    assert all(row["likeness"] >= 0.85 for row in dropped if row["reason"] == "nearly a duplicate")
    assert sum(row["completion"].endswith("again") for row in [*rows, *held]) == 20
    assert report["training"]["steps"] == 28  # 54 rows in fours: 14 an epoch
    page = (tmp_path / "rows.report.html").read_text()
    assert "<svg" in page and "<script" not in page and "://" not in page.replace("http://www.w3.org", "")
    assert inspect(str(tmp_path / "rows.jsonl"), load_recipe(ROOT, "lora")).rows == 54
    first = {path.name: path.read_bytes() for path in tmp_path.glob("rows.*")}
    build(env, str(source), "--to", str(tmp_path / "rows.jsonl"), "--set", "eval_share=0.1", "--set", "gradient_accumulation_steps=4")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("rows.*")} == first
    assert not list(tmp_path.glob(".rows*"))
    build(env, str(source), "--to", str(tmp_path / "rows.jsonl"), "--set", "eval_share=0")
    assert len(lines(tmp_path / "rows.jsonl")) == 60 and not (tmp_path / "rows.eval.jsonl").exists()


def test_age_tags_and_number_choose_and_the_newest_are_held_back(env: dict[str, str], source: Path, tmp_path: Path) -> None:
    sets = ["half_life_days=60", "max_per_tag=12", "max_rows=20", "split_by=time", "eval_share=0.2", "near_duplicates=keep"]
    words = [word for each in sets for word in ("--set", each)]
    build(env, str(source), "--to", str(tmp_path / "few.jsonl"), *words)
    report = json.loads((tmp_path / "few.report.json").read_text())
    assert report["rows_kept"] == 20 and report["rows_eval"] == 4 and max(report["tags"].values()) <= 12
    assert set(report["dropped"]) == {"duplicate", "flawed", "old, by half_life_days", "more than max_per_tag", "more than max_rows"}
    assert sum(report["dropped"].values()) + 20 == 101


def test_rows_that_are_alike_or_ask_the_same_never_stand_on_both_sides(env: dict[str, str], source: Path, tmp_path: Path) -> None:
    build(env, str(source), "--to", str(tmp_path / "kept.jsonl"), "--set", "near_duplicates=keep", "--set", "eval_share=0.3")
    prompts = [{row["prompt"] for row in lines(tmp_path / name)} for name in ("kept.jsonl", "kept.eval.jsonl")]
    assert not prompts[0] & prompts[1] and len(lines(tmp_path / "kept.eval.jsonl")) in (23, 24)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--to", "rows.jsonl"], "say what the data set is made of"),
        (["hf://owner/name", "README.md", "--to", "rows.jsonl"], "a data set of the Hub is built alone"),
        (["s3://bucket/rows", "--to", "rows.jsonl"], "build it on a pod: invoke train --recipe dataset --data s3://bucket/rows"),
        (["no-such", "--to", "rows.jsonl"], "no-such: there is no such file"),
        (["docs", "--to", "docs/rows.jsonl"], "lies in docs, which is read"),
        (["README.md", "--to", "rows.csv"], "name a file that ends in .jsonl"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(env: dict[str, str], words: list[str], problem: str) -> None:
    assert problem in build(env, *words, code=2)


def test_flawed_rows_stop_the_build_where_that_is_asked_for_and_nothing_is_written(
    env: dict[str, str], source: Path, tmp_path: Path
) -> None:
    told = build(env, str(source), "--to", str(tmp_path / "rows.jsonl"), "--set", "on_bad_row=stop", code=2)
    assert "1 of 101 rows cannot be learnt" in told and "source.jsonl:101: " in told
    assert list(tmp_path.glob("*rows*")) == []
