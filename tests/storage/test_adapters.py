"""A training that starts from a finished run's adapter: which files it is, and that it fits, before anything is rented."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.recipes.conftest import ROOT
from tests.runs.test_identity_and_record import make_record
from tests.storage.conftest import PART, Workspace, here, places_at
from tests.storage.test_commit import HASTE
from trainyard.errors import ForeignResult, NotInResult, StoreError, UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.summaries import DataFile, DataSummary, Values
from trainyard.recipes.values import resolve
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import bucketdata
from trainyard.runs.records.parts import StartedFrom
from trainyard.runs.records.record import as_json
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import initfrom, lastrun
from trainyard.storage import asked as asked_of
from trainyard.storage import bucket
from trainyard.storage.adapters import files_of
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.commit import commit
from trainyard.storage.manifest import Keep, ResultKey
from trainyard.storage.markers import Claim, claim_attempt

OUTPUTS = ["model/**", "result.json"]


def finished(settings: StoreSettings, tmp_path: Path, *, keep: Keep | None = None, **config: Any) -> ResultKey:
    """Leave the result of a training in the bucket."""
    pod, key = Workspace(tmp_path / "pod"), ResultKey("ann", "first", 1)
    said = {"r": 8, "lora_alpha": 16, "base_model_name_or_path": "tiny-qwen3-moe", **config}
    for name, body in (("adapter_config.json", json.dumps(said).encode()), ("adapter_model.safetensors", b"w" * 99), ("base/b.bin", b"b")):
        pod.write(f"output/model/{name}", body)
    pod.write("output/result.json", b"{}")
    commit(settings, here(), key, pod.output, OUTPUTS, token="t", keep=keep, part_size=PART, patience=HASTE)
    return key


def asked(monkeypatch: pytest.MonkeyPatch, settings: StoreSettings, run: str, *sets: str) -> tuple[Values, StartedFrom | None]:
    monkeypatch.setattr(initfrom, "bucket_of", lambda *_: settings)
    recipe = load_recipe(ROOT, "lora")
    context = CommandContext(cast(Any, None), {}, Ui(stream=io.StringIO()))
    return initfrom.adapter_of(context, recipe, resolve(recipe, sets=[f"init_from={run}", *sets]), "local", "ann")


def test_the_attempt_is_named_exactly_and_only_its_adapter_goes_to_the_pod(
    settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = finished(settings, tmp_path)

    values, started = asked(monkeypatch, settings, "first")

    assert values["init_from"] == "ann/first/1" and started is not None and started.run == str(key)
    assert asked(monkeypatch, settings, "ann/first/1/model")[0]["init_from"] == "ann/first/1"
    for wrong in ("ann/first/-1", "ann/first/1/model/adapter_config.json", "ann/first/01"):
        with pytest.raises(UserError, match="is no attempt: they are counted from 1"):
            asked(monkeypatch, settings, wrong)
    files = files_of(settings, started.prefix, started.manifest_sha256)
    assert sorted(file.path for file in files) == ["adapter_config.json", "adapter_model.safetensors", "result.json"]
    s3(settings).put_object(Bucket=settings.bucket, Key=key.manifest, Body=b"other")
    with pytest.raises(StoreError, match="other than when this run was prepared"):
        files_of(settings, started.prefix, started.manifest_sha256)


@pytest.mark.parametrize(
    ("config", "sets", "says"),
    [
        ({}, ("lora_rank=16",), "its adapter has lora_rank 8, not 16"),
        ({}, ("lora_alpha=4",), "its adapter has lora_alpha 16, not 4"),
        ({"use_rslora": True}, (), "its adapter has use_rslora True, not False"),
        ({"base_model_name_or_path": "Qwen/Qwen3-0.6B"}, (), "is one of base model Qwen/Qwen3-0.6B, not of tiny-qwen3-moe"),
    ],
)
def test_an_adapter_of_another_shape_is_refused_by_name(
    config: dict[str, Any], sets: tuple[str, ...], says: str, settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(settings, tmp_path, **config)

    with pytest.raises(UserError, match=says):
        asked(monkeypatch, settings, "ann/first", *sets)


def test_what_is_no_success_is_no_start(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(settings, tmp_path, keep=Keep("exited 1", 1))

    with pytest.raises(UserError, match="is no success: a training starts from a finished adapter"):
        asked(monkeypatch, settings, "ann/first")


def test_the_adapter_of_another_run_in_its_place_is_refused_and_named(
    settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = finished(settings, tmp_path)
    claim_attempt(settings, places_at(tmp_path), key, Claim("another", "ann", "laptop", "2026-11-24T10:12:34Z"))
    with pytest.raises(ForeignResult, match=r"another run's .* claimed ann/first/1 \(claimed by ann on laptop.*: its token is 't'"):
        asked(monkeypatch, settings, "first")


def test_what_a_finished_run_has_left_is_data_by_its_place_in_the_bucket_and_what_was_kept_is_none(
    settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initfrom, "bucket_of", lambda *_: settings)
    context = CommandContext(cast(Any, None), {}, Ui(stream=io.StringIO()))
    finished(settings, tmp_path)
    claim_attempt(settings, places_at(tmp_path), ResultKey("ann", "first", 1), Claim("t", "ann", "m", "2026-01-01T00:00:00Z"))

    assert initfrom.data_of(context, "run:ann/first", "local", "bob") == f"s3://{settings.bucket}/models/ann/first/1/model/"
    rows = initfrom.data_of(context, "run:ann/first/1/model/base/b.bin", "local", "ann")
    monkeypatch.setattr(bucketdata, "_store", lambda *_: settings)
    data = inspect(rows, load_recipe(ROOT, "command"), bucketdata.resolver(context, None))
    assert [(file.dest, file.bytes) for file in data.files] == [("b.bin", 1)]
    with pytest.raises(NotInResult, match=r"the result of ann/first/1 has no 'rows\.jsonl'") as never:
        initfrom.data_of(context, "run:ann/first/1/rows.jsonl", "local", "ann")
    assert "model" in str(never.value.hint)
    with pytest.raises(UserError, match="there is no result 'ann/none'"):
        initfrom.data_of(context, "run:ann/none", "local", "ann")


def test_the_last_success_is_the_newest_in_the_bucket_and_its_record_there_tells_what_data_it_had(
    settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastrun, "bucket_of", lambda *_: settings)
    context = CommandContext(places_at(tmp_path / "clone"), {}, Ui(json=True))
    assert lastrun.last_success(context, "local", "ann") is None
    old, new, other = ResultKey("ann", "first-old", 1), ResultKey("ann", "first-new", 2), ResultKey("ann", "second", 1)
    had = DataFile("/rows/a", "a", "1" * 64, 1, 0)
    for key, recipe in ((old, "lora"), (new, "lora"), (other, "command")):
        s3(settings).put_object(Bucket=settings.bucket, Key=key.success, Body=b"{}")
        record = make_record(user=key.user, label=key.run, attempt=key.attempt, recipe=recipe, data=DataSummary(files=(had,)))
        asked_of.put_record(settings, key, json.dumps(as_json(record)).encode())
    times = {old.success: 1.0, new.success: 2.0, other.success: 3.0}  # a store's own are whole seconds
    monkeypatch.setattr(
        lastrun, "listing", lambda store, prefix: (replace(item, modified=times[item.key]) for item in bucket.listing(store, prefix))
    )

    assert lastrun.last_success(context, "local", "ann", "first-") == new
    assert lastrun.last_success(context, "local", "ann", fits=lambda record: record.recipe == "lora") == new
    assert lastrun.last_success(context, "local", "ann") == other and lastrun.last_success(context, "local", "bob") is None
    assert lastrun.earlier_data(context, "local", str(new)).files == (had,)
    with pytest.raises(UserError, match="its record is neither here nor in the bucket"):
        lastrun.earlier_data(context, "local", "ann/first-new/3")
    with pytest.raises(UserError, match="it is an attempt"):
        lastrun.earlier_data(context, "local", "first")
