"""`invoke store.delete`: what a person names and types goes with all its versions; nothing else does, and no number comes back."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import Workspace
from tests.storage.test_result_verbs import Clone, claimed, fresh_clone
from tests.storage.test_sweeper import all_versions, committed, keys, put, versioned
from trainyard.clock import format_time
from trainyard.config import Places
from trainyard.errors import RefusedError, UserError
from trainyard.ledger.rows import RESULT_DELETED
from trainyard.recipes.summaries import DataSummary
from trainyard.runs.planning import datastore
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.parts import StartedFrom
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.verbs import gc, results
from trainyard.runs.verbs.delete import delete
from trainyard.runs.verbs.fetch import fetch
from trainyard.runs.verbs.history import history_of
from trainyard.storage import datasend, deletion, versions
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.dataset import lay_out
from trainyard.storage.inventory import attempts_in
from trainyard.storage.manifest import Keep, ResultKey
from trainyard.storage.markers import Claim, next_attempt
from trainyard.storage.objects import open_uploads
from trainyard.storage.sweeper import plan, sweep

__all__ = ["versioned"]
FIRST, SECOND = ResultKey("greg", "first", 1), ResultKey("greg", "first", 2)


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings) -> Clone:
    return fresh_clone(tmp_path / "clone", store_places, settings)


def kinds(settings: StoreSettings) -> dict[str, str]:
    return {str(one.key): one.kind for one in attempts_in(settings)}


def test_one_attempt_goes_with_every_version_and_its_number_never_comes_back(
    clone: Clone, settings: StoreSettings, pod: Workspace, store_places: Places
) -> None:
    committed(settings, pod, FIRST)
    committed(settings, pod, SECOND, Keep("exited 1", 1))
    put(settings, SECOND.model + "config.json", SECOND.checkpoints + "a/_CHECKPOINT")
    s3(settings).create_multipart_upload(Bucket=settings.bucket, Key=SECOND.model + "big")

    assert delete(clone.context, "local", "greg/first/2", dry_run=True, yes=False) == 0
    assert "greg/first/2  kept" in clone.said() and kinds(settings)["greg/first/2"] == "kept"
    assert delete(clone.context, "local", "greg/first/2", dry_run=False, yes=True) == 0
    both = [RunId("greg", "first", 1), RunId("greg", "first", 2)]
    assert clone.context.ledger().runs_with(RESULT_DELETED, both) == {both[1]}

    assert [one.key for one in all_versions(settings) if "first/2" in one.key] == ["attempts/greg/first/2"]
    assert open_uploads(settings) == [] and kinds(settings) == {"greg/first/1": "success", "greg/first/2": "deleted"}
    assert results.check(clone.context, "local", "greg/first", deep=False, as_json=True)[0] == 0, "the other attempt is whole"
    with pytest.raises(UserError, match=r"nothing of attempt 2 of greg/first is left in s3://.*: deleted on 20"):
        history_of(clone.context, "greg/first/2", "local")
    mine = Claim("new", "greg", "desk", format_time(time.time()))
    assert next_attempt(settings, replace(store_places, home=clone.context.places.home), "greg", "first", mine) == 3
    assert delete(clone.context, "local", "greg/first/2", dry_run=False, yes=True) == 0 and "deleted already" in clone.said()
    with pytest.raises(UserError, match=r"attempt 2 of greg/first has no result in s3://.*: deleted on 20"):
        fetch(clone.context, "local", "greg/first/2", clone.context.places.root / "to", partial=False)
    lines = results.table(*results.list_rows(clone.context, "local", None))
    assert lines[-2].endswith("1 deleted, their numbers stay taken") and not any("first/2" in line for line in lines)


def test_nothing_but_the_claim_is_left_of_an_attempt_in_a_bucket_that_keeps_versions(versioned: StoreSettings, pod: Workspace) -> None:
    committed(versioned, pod, FIRST)
    for _ in range(2):
        put(versioned, FIRST.model + "config.json", FIRST.checkpoints + "a/_CHECKPOINT")
    s3(versioned).delete_object(Bucket=versioned.bucket, Key=FIRST.model + "config.json")
    (one,) = attempts_in(versioned)
    those = deletion.of_attempt(versioned, one)
    assert those.old >= 3 and FIRST.model + "config.json" in {each.key for each in those.versions}, "what a marker hides goes, too"

    assert deletion.delete(versioned, those, "2026-11-29T00:00:00Z") == []

    ((key, latest),) = [(each.key, each.latest) for each in all_versions(versioned)]
    assert (key, latest) == ("attempts/greg/first/1", True) and kinds(versioned) == {"greg/first/1": "deleted"}


def test_the_name_must_be_typed(clone: Clone, settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(settings, pod, FIRST)
    before = all_versions(settings)
    with pytest.raises(RefusedError, match="nothing was deleted"):
        delete(clone.context, "local", "first", dry_run=False, yes=False)  # nobody is at a terminal
    terminal = io.StringIO("y\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    with pytest.raises(RefusedError, match="nothing was deleted"):
        delete(clone.context, "local", "first", dry_run=False, yes=False)
    assert all_versions(settings) == before
    monkeypatch.setattr("builtins.input", lambda: "greg/first")
    assert delete(clone.context, "local", "first", dry_run=False, yes=False) == 0
    assert kinds(settings) == {"greg/first/1": "deleted"}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("greg/first/1/model", "not all of an attempt"),
        ("greg/first/model", "not all of an attempt"),
        ("models/greg/first/1/model/config.json", "not all of an attempt"),
        ("checkpoints/greg/first", "not those of one attempt"),
        ("data/", "knows no run|names no run"),
        ("data/nothing", "there is no data/nothing"),
        ("models/", "names no run"),
        ("closed/0123", "knows no run"),
        ("greg/frist", "did you mean 'greg/first'"),
        ("s3://other/models/greg/first/1", "lies in bucket 'other'"),
    ],
)
def test_what_is_no_whole_thing_is_refused_and_nothing_goes(
    reference: str, words: str, clone: Clone, settings: StoreSettings, tmp_path: Path
) -> None:
    claimed(settings, tmp_path, FIRST, time="2026-09-01T00:00:00Z")
    put(settings, FIRST.model + "config.json", FIRST.success, FIRST.checkpoints + "a/x", "data/abc", "closed/0123")
    before = all_versions(settings)

    with pytest.raises(UserError, match=words):
        delete(clone.context, "local", reference, dry_run=False, yes=True)

    assert all_versions(settings) == before


def test_data_checkpoints_and_logs_go_alone_and_only_below_the_name(clone: Clone, settings: StoreSettings, pod: Workspace) -> None:
    committed(settings, pod, FIRST)
    put(settings, "data/abc/part-1", "data/abcdef", FIRST.checkpoints + "a/x")
    result = {key for key in keys(settings) if key.startswith(("models/", "attempts/"))}

    for reference in ("data/abc", f"{settings.url}/checkpoints/greg/first/1", "logs/greg/first/1/"):
        assert delete(clone.context, "local", reference, dry_run=False, yes=True) == 0

    assert keys(settings) == {*result, "data/abcdef"}


def record(clone: Clone, settings: StoreSettings, token: str, **more: Any) -> RunFolder:
    folder = RunFolder(RunId("greg", "first", 1).folder(clone.context.places.runs))
    made = RunRecord(
        user="greg", label="first", attempt=1, environment="local", recipe="lora", values={}, bundle_sha256="", hours=1, created=0.0,
        token=token, **more,
    )  # fmt: skip
    folder.save(made)
    return folder


def test_a_run_that_may_be_at_work_is_refused_whoever_started_it(clone: Clone, settings: StoreSettings, tmp_path: Path) -> None:
    token = claimed(settings, tmp_path, FIRST, time=format_time(time.time()))
    put(settings, FIRST.model + "half")
    with pytest.raises(RefusedError, match=r"unfinished, claimed by greg on gregs-laptop, .*may be at work"):
        delete(clone.context, "local", "first", dry_run=False, yes=True)
    record(clone, settings, token, phase="started")
    with pytest.raises(RefusedError, match="is not over"):
        delete(clone.context, "local", "greg/first/1", dry_run=False, yes=True)
    with pytest.raises(RefusedError, match="is not over"):
        put(settings, FIRST.checkpoints + "a/x")
        delete(clone.context, "local", "checkpoints/greg/first/1", dry_run=False, yes=True)
    record(clone, settings, token, phase="ended")
    assert delete(clone.context, "local", "first", dry_run=False, yes=True) == 0, "its record here says that it is over"


def test_a_deletion_that_was_cut_off_counts_for_nothing_and_is_finished_by_gc(
    clone: Clone, settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(settings, pod, FIRST)

    def cut_off(_: StoreSettings, group: list[versions.Version]) -> str:
        if group[0].key.endswith("_SUCCESS"):
            return remove_key(settings, group)
        raise KeyboardInterrupt

    remove_key = versions._remove_key
    monkeypatch.setattr(versions, "_remove_key", cut_off)
    with pytest.raises(KeyboardInterrupt):
        delete(clone.context, "local", "first", dry_run=False, yes=True)
    monkeypatch.undo()
    assert kinds(settings) == {"greg/first/1": "deleted"} and FIRST.success not in keys(settings) and len(keys(settings)) > 3

    items = plan(settings, time.time())
    assert [item.kind for item in items] == ["deleted"]
    assert sweep(settings, items, time.time()) == [] and keys(settings) == {"attempts/greg/first/1"}


def test_what_the_store_does_not_let_go_is_said_with_code_7(
    clone: Clone, settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(settings, pod, FIRST)
    monkeypatch.setattr(versions, "_remove_key", lambda settings, group: "AccessDenied (Object Lock)")

    assert delete(clone.context, "local", "first", dry_run=False, yes=True) == 7
    assert "stays: models/greg/first/1/_SUCCESS: AccessDenied (Object Lock)" in clone.said()
    assert FIRST.model + "config.json" in keys(settings)


def test_a_key_that_may_not_ask_for_versions_is_told_that_older_ones_may_stay(
    clone: Clone, settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(settings, pod, FIRST)
    for place in ("trainyard.storage.deletion", "trainyard.storage.sweeper", "trainyard.runs.verbs.delete"):
        monkeypatch.setattr(f"{place}.keeps_versions", lambda settings: None)

    assert delete(clone.context, "local", "first", dry_run=False, yes=True) == 0
    assert "older ones may stay" in clone.said() and kinds(settings) == {"greg/first/1": "deleted"}


def test_a_data_set_goes_with_its_chunks(clone: Clone, settings: StoreSettings, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("big", "other"):
        (tmp_path / "set" / name).write_bytes(name.encode() * (3 << 20))
    laid_out = lay_out(datastore.of_folder(tmp_path / "set"))
    datasend.send(settings, laid_out, 0.0)
    put(settings, "data/abc")
    assert len(keys(settings)) == 4
    assert delete(clone.context, "local", f"data/{laid_out.dataset.sha256}", dry_run=False, yes=True) == 0
    assert keys(settings) == {"data/abc"}


def test_what_a_run_that_is_not_over_needs_of_the_bucket_stays(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {}
    for name, files in {"old": ("shared", "old"), "new": ("shared", "new")}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(file.encode() * (3 << 20))
        sets[name] = lay_out(datastore.of_folder(tmp_path / name)).dataset
        datasend.send(settings, lay_out(datastore.of_folder(tmp_path / name)), 0.0)
    committed(settings, pod, SECOND)
    put(settings, SECOND.checkpoints + "step-1/x", SECOND.checkpoints + "step-1/_CHECKPOINT")
    begun = StartedFrom(run=str(SECOND), path="step-1", manifest_sha256="", prefix=SECOND.checkpoints + "step-1/")
    record(clone, settings, "t", phase="started", data=DataSummary(stored=sets["new"].sha256), resumed_from=begun)
    before = keys(settings)
    shared = {chunk.key for chunk in sets["old"].chunks} & {chunk.key for chunk in sets["new"].chunks}
    assert shared

    for reference in (f"data/{sets['old'].sha256}", *shared, f"checkpoints/{SECOND}", str(SECOND)):
        with pytest.raises(RefusedError, match=r"greg/first is not over and needs (data|checkpoints)/"):
            delete(clone.context, "local", reference, dry_run=False, yes=True)
    monkeypatch.setattr(gc, "_now", lambda store: time.time() + 40 * 86400)
    assert gc.collect(clone.context, "local", dry_run=False, yes=True)[0] == 0
    assert keys(settings) == before

    record(clone, settings, "t", phase="ended")
    assert gc.collect(clone.context, "local", dry_run=False, yes=True)[0] == 0
    assert delete(clone.context, "local", f"data/{sets['old'].sha256}", dry_run=False, yes=True) == 0
    assert not keys(settings) & {*shared, SECOND.checkpoints + "step-1/x"}
