"""Whole cycles on the stack local: real rows, trainings, a merge, answers; killed on the way. `invoke recipes.long -- -k cycle`."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.yard import Yard, kill_tree
from tests.recipes.conftest import ROOT

MEMORIES = json.loads((ROOT / "templates" / "dataset" / "sample.json").read_text())
SMALL = ("--stack", "local", "--set", "max_steps=20", "--set", "save_steps=20", "--yes")


@pytest.fixture(scope="module")
def yard() -> Iterator[Yard]:
    yard = Yard(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")), {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    # The ready environments (some GB) are the machine's, not the test's.
    shared = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "trainyard" / "cloud" / "envs"
    shared.mkdir(parents=True, exist_ok=True)
    (yard.base / "o" / "cloud").mkdir(parents=True)
    (yard.base / "o" / "cloud" / "envs").symlink_to(shared)
    yield yard
    yard.close()
    shutil.rmtree(yard.base, ignore_errors=True)


def record(yard: Yard, label: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((yard.home / "runs" / "tester" / label / "1" / "run.json").read_text())
    return found


def rows(yard: Yard, name: str, number: int) -> list[str]:
    return (yard.home / "cycles" / name / str(number) / "rows.jsonl").read_text().splitlines()


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(2400)
def test_a_cycle_killed_in_its_training_rents_once_and_answers(yard: Yard) -> None:
    memories, prompts = yard.base / "memories", yard.base / "prompts.txt"
    memories.mkdir()
    (memories / "export.json").write_text(json.dumps(MEMORIES[:90]))
    prompts.write_text("What do you remember?\nWhere is the allotment?\n")
    words = ("cycle", "--data", str(memories), *SMALL, "--merge", "--prompts", str(prompts))

    killed = yard.start(*words)
    metrics = yard.home / "runs" / "tester" / "memories-1" / "1" / "metrics.jsonl"
    yard.wait_for(lambda: metrics.is_file() and metrics.read_bytes().count(b'"step"') >= 2, 900)
    kill_tree(killed)
    done = yard.invoke(*words, timeout=1500).expect()

    assert sorted(path.name for path in (yard.home / "runs" / "tester").iterdir() if path.is_dir()) == ["memories-1", "memories-1-merge"]
    assert not (metrics.parents[1] / "2").exists() and len(record(yard, "memories-1")["pods"]) == 1 and yard.pods() == [], done.out
    report = json.loads((yard.home / "cycles" / "memories" / "1" / "answers" / "report.json").read_text())
    assert report["count"] == 2 and set(report["sides"]) == {"tester/memories-1/1", "base tiny-qwen3-moe"}
    assert "nothing is trained again" in yard.invoke(*words).expect().out
    known = json.loads(yard.invoke("cycle", "--name", "memories", "--json").expect().out)
    assert known["over"] and [step["stage"] for step in known["steps"]] == ["data", "train", "merge", "prompts"]


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(2400)
def test_the_next_round_learns_only_what_is_new_and_goes_on_from_the_adapter(yard: Yard, request: pytest.FixtureRequest) -> None:
    """After the first test, whose tiny base is the folder that stays."""
    # Not below /tmp, of which each pod has its own.
    got, base, diary = yard.base / "got", Path(tempfile.mkdtemp(prefix="ty", dir="/var/tmp")) / "base", yard.base / "diary"
    request.addfinalizer(lambda: shutil.rmtree(base.parent))
    yard.invoke("download", "memories-1", str(got)).expect()
    shutil.copytree(got / "base", base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(got / name, base / name)
    diary.mkdir()
    stays = ("--set", f"base_model={base}", "--set", "max_seq_length=256")
    words = ("cycle", "--data", str(diary), *SMALL, *stays, "--since", "last", "--init-from", "last")
    (diary / "export.json").write_text(json.dumps(MEMORIES[:60]))
    first = yard.invoke(*words, timeout=1200).expect()
    (diary / "export.json").write_text(json.dumps(MEMORIES[:100]))  # as an export is: all of it anew

    second = yard.invoke(*words, timeout=1200).expect()

    assert "no round has trained yet" in first.out and "last       tester/diary-1/1" in second.out
    new = rows(yard, "diary", 2)
    assert new and not set(new) & set(rows(yard, "diary", 1)) and record(yard, "diary-2")["data"]["rows"] == len(new)
    assert record(yard, "diary-2")["init_from"]["run"] == "tester/diary-1/1" and yard.pods() == []
    (diary / "export.json").write_text(json.dumps(MEMORIES[:100][::-1]))
    assert "nothing new: all" in yard.invoke(*words).expect().out and not (yard.home / "runs" / "tester" / "diary-3").exists()
