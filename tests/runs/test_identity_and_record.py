"""Runs have stable names, and their record survives a kill at any instant."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from trainyard.errors import Busy, UserError
from trainyard.runs.records.identity import RunId, check_label, find, new_label
from trainyard.runs.records.record import RunFolder, RunRecord

NOW = datetime(2025, 11, 25, 10, 12, 34)


def make_record(**changes: Any) -> RunRecord:
    values: dict[str, Any] = dict(
        user="ann", label="a", attempt=1, environment="local", recipe="command", values={}, bundle_sha256="0", hours=1.0, created=1.0
    )
    return RunRecord(**{**values, **changes})


def test_a_label_defaults_to_the_local_time_and_counts_up_when_taken(tmp_path: Path) -> None:
    assert new_label(tmp_path, "ann", None, NOW, "local") == "2025-11-25-101234"
    (tmp_path / "ann" / "2025-11-25-101234").mkdir(parents=True)

    assert new_label(tmp_path, "ann", None, NOW, "local") == "2025-11-25-101234-2"


@pytest.mark.parametrize("label", ["A", "a b", "-a", "a--b", "a.b", "../a", "a" * 100])
def test_a_label_that_cannot_be_part_of_a_stack_name_is_refused(label: str) -> None:
    with pytest.raises(UserError):
        check_label(label, "ann", "local")


def test_a_run_is_found_by_label_or_by_user_and_label_and_the_newest_attempt_counts(tmp_path: Path) -> None:
    for attempt in (1, 2):
        RunId("ann", "x", attempt).folder(tmp_path).mkdir(parents=True)

    assert find(tmp_path, "x") == find(tmp_path, "ann/x") == RunId("ann", "x", 2)
    assert find(tmp_path, "ann/x/1") == RunId("ann", "x", 1)


def test_a_label_of_two_users_must_be_said_in_full(tmp_path: Path) -> None:
    for user in ("ann", "bob"):
        RunId(user, "x").folder(tmp_path).mkdir(parents=True)

    with pytest.raises(UserError, match="ann, bob"):
        find(tmp_path, "x")


def test_an_unknown_run_lists_the_known_ones(tmp_path: Path) -> None:
    RunId("ann", "x").folder(tmp_path).mkdir(parents=True)

    with pytest.raises(UserError, match="Runs: ann/x"):
        find(tmp_path, "y")


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder, record = RunFolder(tmp_path), make_record(phase="started", pod={"pod_id": "p"}, stages={"up": 1.5})

    folder.save(record)

    assert folder.load() == record


def test_a_damaged_record_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"user": "ann"')

    with pytest.raises(UserError, match=r"run\.json: the record of this run cannot be read"):
        RunFolder(tmp_path).load()


def _save_for_ever(path: Path) -> None:
    folder, number = RunFolder(path), 0
    while True:
        number += 1
        folder.save(make_record(hours=float(number), values={"fill": "x" * 5000}))


def test_a_writer_killed_at_random_instants_never_leaves_half_a_record(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save(make_record())
    for _ in range(8):
        writer = multiprocessing.get_context("spawn").Process(target=_save_for_ever, args=(tmp_path,))
        before = folder.load().hours
        writer.start()
        deadline = time.monotonic() + 20
        while folder.load().hours == before and time.monotonic() < deadline:
            pass
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()

        assert json.loads((tmp_path / "run.json").read_text())["label"] == "a"


def test_only_one_controller_drives_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    with folder.driving(), pytest.raises(Busy, match=f"process {os.getpid()}"), RunFolder(tmp_path).driving():
        pass
    with folder.driving():
        pass


def test_phases_have_an_order() -> None:
    record = make_record(phase="trained")

    assert record.reached("started") and record.reached("trained") and not record.reached("committed")
