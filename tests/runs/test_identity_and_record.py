"""Runs have stable names, and their record survives a kill at any instant."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from trainyard.config import places
from trainyard.errors import Busy, UserError
from trainyard.recipes.summaries import DataFile, DataSummary
from trainyard.runs.context import CommandContext
from trainyard.runs.records.identity import RunId, check_label, find, new_label
from trainyard.runs.records.onpod import pod_copy
from trainyard.runs.records.parts import PaidPod, RunBucket, RunPod, RunResult
from trainyard.runs.records.record import RunFolder, RunRecord, read_record
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import reach
from trainyard.storage.ending import Ending

GOLDEN = Path(__file__).parent / "golden"
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


def test_last_is_the_run_that_was_begun_last_whatever_was_written_of_others_since(tmp_path: Path) -> None:
    runs = places(tmp_path, {}).runs
    context = CommandContext(places(tmp_path, {}), {}, Ui())
    with pytest.raises(UserError, match="no run 'last' here"):
        context.folder("last")
    for label, created, stack in (("new", 3.0, "local"), ("old", 1.0, "local"), ("other", 2.0, "vast")):
        RunFolder(RunId("ann", label).folder(runs)).save(make_record(label=label, created=created, environment=stack))
    torn = RunId("ann", "torn").folder(runs)
    torn.mkdir(parents=True)
    (torn / "run.json").write_text("{")

    assert context.folder("last").path == RunId("ann", "new").folder(runs)
    assert context.named("last", "vast") == "ann/other" and context.named("ann/last") == "ann/last"
    with pytest.raises(UserError, match="begun last"):
        check_label("last", "ann", "local")


def test_a_label_of_two_users_must_be_said_in_full(tmp_path: Path) -> None:
    for user in ("ann", "bob"):
        RunId(user, "x").folder(tmp_path).mkdir(parents=True)

    with pytest.raises(UserError, match="ann, bob"):
        find(tmp_path, "x")


def test_an_unknown_run_lists_the_known_ones(tmp_path: Path) -> None:
    RunId("ann", "x").folder(tmp_path).mkdir(parents=True)

    with pytest.raises(UserError, match="Runs: ann/x"):
        find(tmp_path, "y")


@pytest.mark.parametrize(
    "word", ["", "/", "*", "ann/*", "ann/[x]", "ann/../ann/x", "ann/x/0", "ann/x/\u0663", "ann/x/" + "9" * 5000, "x" * 5000, "x\0"]
)
def test_a_word_that_is_no_name_means_no_run_and_is_no_pattern(word: str, tmp_path: Path) -> None:
    RunId("ann", "x").folder(tmp_path).mkdir(parents=True)

    with pytest.raises(UserError, match="there is no run") as told:
        find(tmp_path, word)

    assert len(told.value.message) < 300


@pytest.mark.parametrize("word", ["", "-x", "a/b", "\u0663", "x" * 5000, "a\x1b[31mb", "a\0", "\udcff", "..", "a--b"])
def test_a_name_that_can_be_none_is_refused_in_a_short_sentence_that_changes_no_screen(word: str) -> None:
    with pytest.raises(UserError, match=r"use a-z, 0-9|too long") as told:
        check_label(word, "ann", "local")

    assert len(told.value.message) < 300 and told.value.message.isprintable()


@pytest.mark.parametrize("word", ["", "0", "-1", "65536", "\u0663", "8" * 5000, "8\0", "80/tcp", "8_0", " 80"])
def test_a_port_is_a_number_as_a_system_has_them(word: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no port") as told:
        reach.tunnel(CommandContext(places(tmp_path, {}), {}, Ui()), "a", word)

    assert len(told.value.message) < 300


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    result = RunResult(left_out=(("a", 1),), not_carried=(("b", "why"),), kept=Ending("stopped", checkpoints=("c-1",)), road="bucket")
    data = DataSummary(kind="file", files=(DataFile("a", "b", None, 1, 2),), unused=("x",))
    bucket, paid, pod = RunBucket("b", "s3"), [PaidPod("p", 1.5, 2.0)], RunPod(pod_id="p", price_per_hour=1.5, port=22)
    values = {"lr": 1e-4, "on": True, "n": 3, "words": ["a"], "none": None}
    record = make_record(phase="ended", pod=pod, pods=paid, bucket=bucket, result=result, data=data, values=values, stages={"up": 1.5})

    folder.save(record)

    assert folder.load() == record


def test_a_damaged_record_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"user": "ann"')

    with pytest.raises(UserError, match=r"run\.json: the record of this run cannot be read"):
        RunFolder(tmp_path).load()


def within(before: object, after: object) -> object:
    """What is there now of the fields that were there before: parts have got fields that then were left out."""
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [within(old, new) for old, new in zip(before, after, strict=True)]
    return {key: within(before[key], after[key]) for key in before} if isinstance(before, dict) and isinstance(after, dict) else after


@pytest.mark.parametrize("name", ["started", "ended"])
def test_a_record_of_an_older_trainyard_is_read_and_written_as_it_was(tmp_path: Path, name: str) -> None:
    """Written by the version before records had parts of their own; a run in flight lives through an upgrade."""
    folder, before = RunFolder(tmp_path), json.loads((GOLDEN / f"{name}.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(before))

    record = folder.load()
    folder.save(record)
    after = json.loads((tmp_path / "run.json").read_text())

    assert (record.pod.port, record.pod.isolation, record.data.files[0].bytes) == (36337, "namespace", 32)
    assert record.bucket == RunBucket("trainyard-2b5e55b2", "local", "http://127.0.0.1:24690", "us-east-1")
    assert before == {key: within(before[key], after[key]) for key in before}, "what stood there stands there"
    assert name == "started" or (record.result and record.result.left_out) == (("notes.txt", 2),)


def test_a_record_of_a_newer_trainyard_keeps_what_this_one_does_not_know(tmp_path: Path) -> None:
    before = {**json.loads((GOLDEN / "started.json").read_text()), "carbon": {"kg": 1}}
    (tmp_path / "run.json").write_text(json.dumps(before))

    RunFolder(tmp_path).save(RunFolder(tmp_path).load())

    assert json.loads((tmp_path / "run.json").read_text())["carbon"] == {"kg": 1}


def test_what_an_older_trainyard_left_on_a_pod_is_read() -> None:
    record = read_record(json.loads((GOLDEN / "onpod.json").read_text()))

    assert (record.id, record.token[:6], record.data.kind) == (RunId("ann", "first"), "170786", "file")
    assert read_record(json.loads(pod_copy(record))) == record


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pod": {"port": "x"}}, "'pod.port' is 'x'"),
        ({"pods": [{"pod_id": "p"}]}, "'pods[0].price_per_hour' is missing"),
        ({"pods": {}}, "'pods' is {}"),
        ({"result": {"left_out": [["a"]]}}, "'result.left_out[0]' is ['a']"),
        ({"phase": "lost"}, "'phase' is 'lost'"),
        ({"attempt": True}, "'attempt' is True"),
        ({"values": {"a": {}}}, "'values.a' is {}"),
        ({"data": None}, "data is None, not an object"),
    ],
)
def test_a_record_with_a_value_of_another_kind_is_refused_with_its_place(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    data = {**json.loads((GOLDEN / "started.json").read_text()), **change}
    (tmp_path / "run.json").write_text(json.dumps(data))

    with pytest.raises(UserError, match=re.escape(f"run.json: the record of this run cannot be read: {told}")):
        RunFolder(tmp_path).load()


def test_reading_records_loads_no_recipe_and_nothing_that_speaks_to_a_store() -> None:
    heavy = "trainyard.recipes.contract", "trainyard.recipes.data", "jinja2", "botocore", "trainyard.storage.manifest", "trainyard.pod"
    code = f"import sys, trainyard.runs.records.record; print([name for name in {heavy} if name in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


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
