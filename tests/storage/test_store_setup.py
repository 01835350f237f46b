"""`invoke setup --store KIND` tries keys of a store on the store itself before they are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.storage.conftest import places_at
from trainyard.doctor.wizard import SetupReport, SetupRequest, lines, set_up
from trainyard.envfile import read_env_file
from trainyard.runs.context import CommandContext
from trainyard.runs.ui import Ui
from trainyard.storage.client import StoreSettings


def keys_of(store: StoreSettings, **more: str) -> dict[str, str]:
    """Return what a person would type."""
    return {
        "AWS_ACCESS_KEY_ID": store.access_key.reveal(), "AWS_SECRET_ACCESS_KEY": store.secret_key.reveal(),
        "AWS_ENDPOINT_URL": str(store.endpoint), **more,
    }  # fmt: skip


def tried(root: Path, keys: dict[str, str]) -> SetupReport:
    context = CommandContext(places_at(root), {"HOME": str(root)}, Ui())
    report = set_up(context, SetupRequest(stores=("aws",), keys=keys, patience=20), None)
    assert not any(keys["AWS_SECRET_ACCESS_KEY"] in line for line in lines(report))
    return report


def test_keys_of_a_bucket_that_can_hold_results_are_kept(settings: StoreSettings, tmp_path: Path) -> None:
    keys = keys_of(settings, AWS_BUCKET=settings.bucket)
    report = tried(tmp_path, keys)
    assert (report.exit_code, report.stores[0].says) == (0, f"bucket {settings.bucket} can hold results")
    assert read_env_file(tmp_path / ".env") == keys


def test_keys_that_the_store_does_not_take_are_not_kept(settings: StoreSettings, tmp_path: Path) -> None:
    wrong = keys_of(settings) | {"AWS_SECRET_ACCESS_KEY": "w" * 40}
    report = tried(tmp_path, wrong)
    assert (report.exit_code, report.stores[0].verdict, report.written) == (4, "wrong", ())
    assert "does not accept this key (SignatureDoesNotMatch)" in report.stores[0].says
    assert tried(tmp_path, keys_of(settings)).stores[0].says == "the key is taken; a bucket is made at the first up"


def test_a_store_that_does_not_answer_says_nothing_of_its_keys(settings: StoreSettings, tmp_path: Path) -> None:
    away = keys_of(replace(settings, endpoint="http://127.0.0.1:9"), AWS_BUCKET="results-1")
    report = tried(tmp_path, away)
    assert (report.exit_code, report.stores[0].verdict) == (4, "untried")
    assert set(report.written) == set(away)
