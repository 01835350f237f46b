"""A training's verdict as a person reads it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from trainyard.config import places
from trainyard.errors import ForeignResult
from trainyard.pod.files import compile_outputs, is_output
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.declaration import declaration, read_declaration
from trainyard.recipes.values import artefacts_of, patterns_of, resolve
from trainyard.remote.jobs import OUT_OF_MEMORY
from trainyard.runs.context import CommandContext
from trainyard.runs.life import finish
from trainyard.runs.life.judge import judge
from trainyard.runs.records.parts import RunBucket
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui
from trainyard.secret import Secret
from trainyard.storage import commit as storage_commit
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import Committed
from trainyard.storage.ending import Ending

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (b"step 1\nKilled\n", "the training exited 137"),
        (f"step 1\nKilled\n\n{OUT_OF_MEMORY}: 1 program(s) of this pod were killed\n".encode(), "the training exited 137: out of memory"),
    ],
)
def test_a_killed_training_says_whether_its_memory_was_used_up(tmp_path: Path, log: bytes, told: str) -> None:
    record = RunRecord("u", "a", 1, "local", "command", {}, "", 1.0, time.time(), exit_code=137)
    folder = RunFolder(tmp_path)
    folder.log.write_bytes(log)
    command = load_recipe(ROOT, "command")
    said = read_declaration(json.dumps(declaration(command, resolve(command, sets=[f"script={__file__}"]), {})).encode(), "recipe.json")

    verdict = judge(record, folder, said)

    assert verdict.error is not None and verdict.error.splitlines()[0] == told
    assert log.decode().splitlines()[-1] in verdict.error


def test_what_is_advised_when_an_expected_file_is_missing_names_what_is_kept_and_can_be_set() -> None:
    command = load_recipe(ROOT, "command")
    said = "6. done (exit code 0), but nothing matches model/* in the output"
    known = next(one for one in command.known_failures if one.pattern.search(said))
    sets = re.findall(r"--set '([^']+)'", known.remedy)
    asked = [artefacts_of(command, resolve(command, sets=[f"script={__file__}", text])) for text in sets]

    assert asked == [["model/PATTERN"], []]
    values = resolve(command, sets=[f"script={__file__}"])
    outputs = [pattern for one in command.outputs for pattern in patterns_of(one, command, values)]
    assert is_output(asked[0][0], compile_outputs(outputs)) and not is_output("checkpoints/a", compile_outputs(outputs))


@pytest.mark.parametrize(
    ("ending", "error"),
    [(None, None), (Ending("exited 137: out of memory", 137), "the training was no success: exited 137: out of memory")],
)
def test_a_run_whose_pod_is_gone_is_judged_by_what_reached_its_bucket_though_its_bundle_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending | None, error: str | None
) -> None:
    record = RunRecord("u", "a", 1, "local", "command", {}, "", 1.0, time.time(), bucket=RunBucket("b"))
    in_bucket(monkeypatch, ending)

    verdict = finish.find_result(CommandContext(places(tmp_path, {}), {}, Ui(json=True)), record, RunFolder(tmp_path))

    assert verdict is not None and verdict.error == error
    assert record.training_success is (ending is None) and record.result is not None
    assert record.exit_code == (137 if ending else None)


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        ({"state": "done", "time": 1480}, 480.0),
        ({"state": "training", "time": 1480}, None),
        ({"state": "done", "time": 1}, None),
        ([], None),
        ({"state": "done"}, None),
    ],
)
def test_how_long_a_training_ran_that_its_pod_has_committed_alone_is_told_by_its_own_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: object, seconds: float | None
) -> None:
    record = RunRecord("u", "a", 1, "local", "command", {}, "", 1.0, 900.0, bucket=RunBucket("b"), training_began=1000.0)
    (tmp_path / "status.json").write_text(json.dumps(status))
    in_bucket(monkeypatch, None)

    assert finish.find_result(CommandContext(places(tmp_path, {}), {}, Ui(json=True)), record, RunFolder(tmp_path)) is not None
    assert record.job_seconds == seconds


def test_what_its_pod_has_kept_as_no_success_is_none_whatever_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = load_recipe(ROOT, "command")
    said = read_declaration(json.dumps(declaration(command, resolve(command, sets=[f"script={__file__}"]), {})).encode(), "recipe.json")
    record = RunRecord("u", "a", 1, "local", "command", {}, "", 1.0, time.time(), bucket=RunBucket("b"), exit_code=0)
    in_bucket(monkeypatch, Ending("exited 0, but 1 of its files were still being written", 0))
    monkeypatch.setattr(finish, "declared_of", lambda _: said)

    verdict = finish.find_result(CommandContext(places(tmp_path, {}), {}, Ui(json=True)), record, RunFolder(tmp_path))

    assert verdict is not None and verdict.code == 1
    assert verdict.error == "the training was no success: exited 0, but 1 of its files were still being written"
    assert record.training_success is False


def test_what_its_pod_says_of_a_training_without_an_exit_code_is_told_and_no_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = load_recipe(ROOT, "command")
    said = read_declaration(json.dumps(declaration(command, resolve(command, sets=[f"script={__file__}"]), {})).encode(), "recipe.json")
    record = RunRecord("u", "a", 1, "local", "command", {}, "", 1.0, time.time(), bucket=RunBucket("b"), vanished="lost (out of memory?)")
    in_bucket(monkeypatch, Ending("has no verdict: the job has stalled; it still ran when its time to save was half over", None))
    monkeypatch.setattr(finish, "declared_of", lambda _: said)
    folder = RunFolder(tmp_path)
    folder.log.write_text("one line\n")

    verdict = finish.find_result(CommandContext(places(tmp_path, {}), {}, Ui(json=True)), record, folder)

    assert verdict is not None and verdict.error is not None and record.training_success is False
    first, *words = verdict.error.splitlines()
    assert first == "the training has no verdict: the job has stalled; it still ran when its time to save was half over"
    assert "  one line" in words and "out of memory" not in verdict.error


@pytest.mark.parametrize(("token", "told"), [("ours", True), ("theirs", False)])
def test_what_a_pod_has_committed_alone_is_named_where_another_runs_result_stands_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], token: str, told: bool
) -> None:
    record = RunRecord("u", "a", 1, "local", "command", {}, "", 1.0, time.time(), token="ours", bucket=RunBucket("b"))
    store = StoreSettings("s3", "http://127.0.0.1:9", "", "b", Secret("k"), Secret("s"))
    monkeypatch.setattr(finish, "store_of", lambda *_: store)
    monkeypatch.setattr(finish, "refuse_foreign", lambda *_: (_ for _ in ()).throw(ForeignResult("_SUCCESS belongs to another run")))
    monkeypatch.setattr(finish, "read", lambda *_: json.dumps({"token": token}).encode())

    verdict = finish.find_result(CommandContext(places(tmp_path, {}), {}, Ui()), record, RunFolder(tmp_path))

    out, _ = capsys.readouterr()
    assert verdict is None
    assert ("s3://b/models/u/a/1/_pod.tar" in out and "aws s3 sync s3://b/models/u/a/1/ DIR" in out) is told, out


def in_bucket(monkeypatch: pytest.MonkeyPatch, ending: Ending | None) -> None:
    """Let the bucket have a result, and the pod be gone."""
    done = Committed("s3://b/k/", "k/", "s3://b/logs/", "0", 1, 10, (), True, ending)
    monkeypatch.setattr(finish, "store_of", lambda *_: object())
    monkeypatch.setattr(finish, "refuse_foreign", lambda *_: None)
    monkeypatch.setattr("trainyard.runs.life.alone.seal", lambda *_: None)
    monkeypatch.setattr(finish, "take_logs", lambda *_: None)
    monkeypatch.setattr(storage_commit, "committed", lambda *_: done)
