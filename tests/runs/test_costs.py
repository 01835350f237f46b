"""`invoke costs`: what was spent, by stage, stack, user or recipe; the parts make up the whole, and nothing that counts is left out."""

from __future__ import annotations

import io
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from trainyard.config import places
from trainyard.errors import UserError
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.records.notes import note_row
from trainyard.runs.records.parts import PaidPod, RunPod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import cost
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.costs import WAYS, costs, lines


@pytest.fixture
def yard(tmp_path: Path) -> CommandContext:
    """A checkout with two runs of $0.10 each, one of them old, and pods that a stack declares for $0.30."""
    work = CommandContext(places(tmp_path, {"HOME": str(tmp_path)}), {}, Ui(stream=io.StringIO()))
    keep(work, user="ann", label="new", created=time.time() - 3600)
    keep(work, user="bo", label="old", created=990.0)
    work.ledger().set_cost(RunId("ann", "pods.lab"), time.time(), 0.3)
    return work


def keep(work: CommandContext, **changes: Any) -> None:
    began = changes["created"] + 10
    record = RunRecord(
        attempt=1, environment="lab", recipe="lora", values={}, bundle_sha256="0", hours=1.0, phase="ended", ended=began + 120,
        pod=RunPod(pod_id="p", price_per_hour=3.6), pods=[PaidPod("p", 3.6, began, ended=began + 100)],
        stages={"up": 15.0, "start": 5.0, "train": 60.0, "commit": 10.0, "destroy": 30.0}, **changes,
    )  # fmt: skip
    folder = RunFolder(record.id.folder(work.places.runs))
    folder.path.mkdir(parents=True)
    folder.save(record)
    work.ledger().set_cost(record.id, record.created, cost(record))
    note_row(work, record)


def shares(work: CommandContext, by: str, since: str | None = None) -> dict[str, tuple[int, float]]:
    return {part.name: (part.runs, part.dollars) for part in costs(work, since, by).parts}


def test_costs_are_told_by_stack_user_and_recipe_with_the_pods_that_a_stack_declares(yard: CommandContext) -> None:
    assert shares(yard, "stack") == {"lab": (3, 0.5)}
    assert shares(yard, "user") == {"ann": (2, 0.4), "bo": (1, 0.1)}
    assert shares(yard, "recipe") == {"declared pods": (1, 0.3), "lora": (2, 0.2)}
    assert shares(yard, "user", "7d") == {"ann": (2, 0.4)}


def test_stages_make_up_the_whole_and_what_was_not_training_is_said(yard: CommandContext) -> None:
    report = costs(yard, None, "stage")

    assert report.dollars == 0.5 and abs(sum(part.dollars for part in report.parts) - 0.5) < 1e-3
    assert shares(yard, "stage")["train"] == (2, 0.12) and shares(yard, "stage")["unknown"] == (1, 0.3)
    assert (report.staged, report.not_training) == (0.2, 0.08)
    text = list(lines(report))
    assert text[-1] == "not training: $0.08 of $0.20 whose stages are known here (40%)" and max(map(len, text)) <= 80
    assert json.loads(json.dumps(asdict(report)))["parts"][0]["name"] == "unknown"


def test_without_a_run_and_for_another_way_a_sentence_says_so(tmp_path: Path, yard: CommandContext) -> None:
    with pytest.raises(UserError, match="--by pod: there is no such way") as caught:
        costs(yard, None, "pod")
    assert all(way in str(caught.value.hint) for way in WAYS)
    empty = CommandContext(places(tmp_path / "empty", {"HOME": str(tmp_path)}), {}, Ui(stream=io.StringIO()))
    assert list(lines(costs(empty, "7d", "stage"))) == ["no run has cost anything in this time"]
