"""A training that starts from a finished run's adapter: which files it is, and that it fits, before anything is rented."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import pytest

from tests.recipes.conftest import ROOT
from tests.storage.conftest import PART, Workspace, here, places_at
from tests.storage.test_commit import HASTE
from trainyard.errors import ForeignResult, StoreError, UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import resolve
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import StartedFrom
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import initfrom
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
