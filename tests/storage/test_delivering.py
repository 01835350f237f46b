"""A result is delivered after its run, to a folder or to the Hub; what becomes of it changes nothing of the run."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import Workspace, here
from tests.storage.hub_emulator import TOKEN, HubEmulator
from tests.storage.test_deletion import FIRST
from tests.storage.test_result_verbs import Clone, claimed, fresh_clone
from tests.storage.test_sweeper import committed
from trainyard.config import Places
from trainyard.errors import Busy, StoreError, UserError
from trainyard.runs.after.deliver import deliver
from trainyard.runs.life.delivering import begin
from trainyard.runs.planning import deliverymeans
from trainyard.runs.planning.deliverymeans import planned
from trainyard.runs.records.delivery import DeliveryState, delivering, is_under_way, line_of, read_state
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.parts import RunBucket, RunResult
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import last_lines, summarize
from trainyard.runs.verbs.fetch import fetch
from trainyard.runs.verbs.listing import list_runs
from trainyard.runs.verbs.runtable import lines
from trainyard.storage import direct
from trainyard.storage.client import StoreSettings
from trainyard.storage.ending import Ending
from trainyard.storage.manifest import Keep

CONFIG = b'{"architectures": []}\n'


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings) -> Clone:
    return fresh_clone(tmp_path / "clone", store_places, settings)


def run_of(clone: Clone, settings: StoreSettings, **more: Any) -> RunFolder:
    """Return the folder of a run that is over, whose result lies in the bucket."""
    folder = RunFolder(RunId("greg", "first", 1).folder(clone.context.places.runs))
    usual: dict[str, Any] = {
        "recipe": "lora", "phase": "ended", "training_success": True, "bucket": RunBucket(settings.bucket, "local"),
        "result": RunResult(s3_url=f"{settings.url}/{FIRST.model}", s3_key=FIRST.model, files=1),
        "values": {"base_model": "Qwen/Qwen3-0.6B", "lora_rank": 8, "command": None, "data": "secret.jsonl"},
    }  # fmt: skip
    record = RunRecord(
        user="greg", label="first", attempt=1, environment="local", bundle_sha256="", hours=1, created=0.0,
        token="token-of-greg-1", **{**usual, **more},
    )  # fmt: skip
    folder.save(record)
    return folder


def with_hub(clone: Clone, hub: HubEmulator, token: str = TOKEN) -> Clone:
    context = replace(clone.context, env={**clone.context.env, "HF_TOKEN": token, "HF_ENDPOINT": hub.endpoint})
    return Clone(context, clone.screen)


def test_to_a_folder_where_the_run_was_told_and_again_where_a_person_says(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    committed(settings, pod, FIRST)
    folder = run_of(clone, settings, deliver=f"local:{tmp_path / 'models'}")

    assert deliver(clone.context, "first", None, None) == 0
    assert (tmp_path / "models/config.json").read_bytes() == CONFIG
    state = read_state(folder)
    assert state is not None and (state.state, state.where) == ("done", str(tmp_path / "models"))
    assert json.loads(folder.summary.read_text())["delivery"]["state"] == "done"
    assert last_lines(summarize(folder.load(), folder), None)[-1] == f"delivered to {tmp_path / 'models'}"
    assert f"    delivered to {tmp_path / 'models'}" in lines(list_runs(clone.context), 80)
    assert deliver(clone.context, "greg/first/1", "local", None) == 0 and "(0 were here already)" in clone.said()
    assert (clone.context.places.root / "out/downloads/first/config.json").read_bytes() == CONFIG


def test_to_the_hub_with_a_card_and_the_files_here_are_gone_again(
    clone: Clone, settings: StoreSettings, pod: Workspace, hub: HubEmulator
) -> None:
    committed(settings, pod, FIRST)
    folder = run_of(clone, settings, deliver="hub:greg/first")

    assert deliver(with_hub(clone, hub).context, "first", None, None) == 0

    files = hub.repos["greg/first"].files
    card = files["README.md"][0].decode()
    assert files["config.json"][0] == CONFIG and "base_model: Qwen/Qwen3-0.6B" in card and "| `lora_rank` | `8` |" in card
    assert "secret" not in card and "greg/first/1" in card
    state = read_state(folder)
    assert state is not None and state.state == "done" and str(state.where).startswith(f"{hub.endpoint}/greg/first (revision ")
    assert not list((clone.context.places.home / "delivery").rglob("config.json"))
    assert TOKEN not in clone.said() + "".join(path.read_text() for path in folder.path.glob("*.json"))


def test_any_machine_delivers_from_the_bucket_alone(clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    committed(settings, pod, FIRST)

    assert deliver(clone.context, "greg/first", f"local:{tmp_path / 'here'}", "local") == 0
    assert (tmp_path / "here/config.json").read_bytes() == CONFIG
    with pytest.raises(UserError, match="where shall greg/first go"):
        deliver(clone.context, "greg/first", None, "local")


def test_trouble_is_noted_with_the_command_that_goes_on_and_the_run_stays_a_success(
    clone: Clone, settings: StoreSettings, pod: Workspace, hub: HubEmulator
) -> None:
    committed(settings, pod, FIRST)
    folder = run_of(clone, settings, deliver="hub:not-ours/first")

    with pytest.raises(StoreError, match="answered 403"):
        deliver(with_hub(clone, hub).context, "first", None, None)

    state = read_state(folder)
    assert state is not None and state.state == "failed" and "answered 403" in str(state.error)
    summary = summarize(folder.load(), folder)
    assert summary.success and summary.exit_status == 0
    assert last_lines(summary, None)[-1].endswith("again: invoke deliver greg/first/1")


def test_what_was_kept_goes_home_whole_and_never_to_the_hub(
    clone: Clone, settings: StoreSettings, pod: Workspace, hub: HubEmulator, tmp_path: Path
) -> None:
    committed(settings, pod, FIRST, Keep("exited 1", 1))
    result = RunResult(s3_url="s3://x", s3_key=FIRST.prefix, files=1, kept=Ending("exited 1", 1))
    run_of(clone, settings, training_success=False, result=result)

    with pytest.raises(UserError, match="no success"):
        deliver(with_hub(clone, hub).context, "first", "hub:greg/first", None)
    assert hub.repos == {}
    assert deliver(clone.context, "first", f"local:{tmp_path / 'kept'}", None) == 0
    assert (tmp_path / "kept/model/config.json").read_bytes() == CONFIG


def test_a_run_starts_its_delivery_once_in_a_process_that_outlives_the_terminal(
    clone: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **more: started.append((words, more)))
    folder = run_of(clone, settings, deliver="local")

    assert begin(clone.context, folder.load(), folder) and not begin(clone.context, folder.load(), folder)

    ((words, more),) = started
    assert words[1:] == ["-m", "trainyard", "deliver", "greg/first/1"] and more["start_new_session"] and more["stdin"] == subprocess.DEVNULL
    assert f"its log: {folder.path / 'delivery.log'}" in clone.said()
    assert "under way" in str(lines(list_runs(clone.context), 80)) and is_under_way(folder)
    for nothing in ({"deliver": None}, {"deliver": "local", "result": None}, {"deliver": "hub:a/b", "training_success": False}):
        other = replace(folder.load(), **nothing)
        (folder.path / "delivery.json").unlink(missing_ok=True)
        assert not begin(clone.context, other, folder)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError(11, "no process left")))
    assert not begin(clone.context, folder.load(), folder) and "Do it with: invoke deliver greg/first/1" in clone.said()


def test_one_process_delivers_at_a_time(clone: Clone, settings: StoreSettings) -> None:
    folder = run_of(clone, settings, deliver="local")

    with delivering(folder), pytest.raises(Busy, match="another process delivers"):
        deliver(clone.context, "first", None, None)


@pytest.mark.parametrize(
    ("state", "under_way", "says"),
    [
        ("done", False, "delivered to /x"),
        ("begun", True, "under way"),
        ("begun", False, "was cut off; go on with: invoke deliver a/b/1"),
        ("failed", False, "failed: full; again: invoke deliver a/b/1"),
    ],
)
def test_how_far_a_delivery_has_come_is_said(state: Any, under_way: bool, says: str) -> None:
    one = DeliveryState(to="local", state=state, at="2026-11-29T00:00:00Z", where="/x", error="full")

    assert says in line_of("a/b/1", one, under_way=under_way)


def test_where_to_is_looked_at_before_anything_is_rented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert planned({}, None, None, tmp_path) is None and planned({}, None, "local", tmp_path) == "local"
    assert planned({}, "local:x", "hub:a/b", tmp_path / "root") == f"local:{tmp_path / 'x'}"
    assert planned({}, None, "local:x", tmp_path / "root") == f"local:{tmp_path / 'root/x'}"
    for wrong in ("hub", "hub:x", "hub:a/../b", "ftp:x", "local:", "hub:a/b/c"):
        with pytest.raises(UserError, match="no place to deliver to"):
            planned({"HF_TOKEN": "t"}, wrong, None, tmp_path)
    monkeypatch.setattr(deliverymeans, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package huggingface_hub"):
        planned({"HF_TOKEN": "t"}, "hub:a/b", None, tmp_path)
    monkeypatch.setattr(deliverymeans, "find_spec", lambda name: object())
    with pytest.raises(UserError, match="needs HF_TOKEN"):
        planned({}, "hub:a/b", None, tmp_path)
    assert planned({"HF_TOKEN": "t"}, "hub:a/b", None, tmp_path) == "hub:a/b"


def test_the_next_download_or_delivery_pushes_a_result_that_is_owed_to_its_bucket(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    token = claimed(settings, pod.root, FIRST)
    home = clone.context.places.root / "out/greg/first"
    direct.fetch(here(), FIRST, pod.output, ["model/config.json"], [], home, token=token)
    folder = run_of(clone, settings, result=RunResult(local_path=str(home), files=1, road="ssh", road_why="the store was away", owed=True))

    assert fetch(clone.context, None, "first", tmp_path / "got").paths == (tmp_path / "got/config.json",)

    assert (tmp_path / "got/config.json").read_bytes() == CONFIG
    result = folder.load().result
    assert result is not None and not result.owed and result.road == "ssh, then bucket" and result.road_why == "the store was away"
    assert json.loads(folder.summary.read_text())["s3_url"] == f"{settings.url}/{FIRST.model}"
