"""Which checkpoint is the newest that is whole: of those written while a run trained and those kept at an attempt's end."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.runs.test_identity_and_record import make_record
from tests.storage.conftest import PART, Workspace, here, places_at, tree
from tests.storage.lying_proxy import Fault, LyingProxy
from tests.storage.test_commit import HASTE
from trainyard.errors import StoreError
from trainyard.runs.context import CommandContext
from trainyard.runs.life import restore
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.startedfrom import started_from
from trainyard.runs.ui import Ui
from trainyard.storage import ahead, bucket, checkpoints
from trainyard.storage.ahead import Ahead, CheckpointRule, Training
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.commit import commit
from trainyard.storage.manifest import CHECKPOINT, MANIFEST, Keep, ResultKey
from trainyard.storage.markers import Claim, claim_attempt
from trainyard.storage.podfetch import fetch_to_pod
from trainyard.storage.podtargets import target_of

TOKEN = "t" * 32
PATTERN = "checkpoints/*"


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(ahead, "AFTER", {"whole": 0.0, "quiet": 0.0, "again": 0.0, "unmarked": 0.0})
    return Workspace(tmp_path / "pod")


def written(settings: StoreSettings, pod: Workspace, attempt: int, name: str, token: str = TOKEN) -> None:
    """Let a training write a checkpoint, and let it go into the bucket while that runs."""
    body = os.urandom(1000 + attempt)
    if name.endswith(".pt"):
        pod.write(f"output/checkpoints/{name}", body)
    else:
        pod.write(f"output/checkpoints/{name}/optimizer.bin", body)
        pod.write(f"output/checkpoints/{name}/deep/state.json", b"{}")
    rule = CheckpointRule(PATTERN, None, keep=2, every=0.0)
    going = Ahead(
        settings,
        here(),
        Training(ResultKey("ann", "a", attempt), token, pod.output, ["model/**"], (), rule),
        part_size=PART,
        patience=HASTE,
    )
    going.begin()
    assert going.save_checkpoint(f"checkpoints/{name}")


def kept(settings: StoreSettings, pod: Workspace, attempt: int) -> None:
    """Let an attempt end without success: what it leaves is kept."""
    keep = Keep("exited 1", 1, PATTERN, None)
    commit(
        settings, here(), ResultKey("ann", "a", attempt), pod.output, ["model/**"], token=TOKEN, keep=keep, part_size=PART, patience=HASTE
    )


def names(settings: StoreSettings) -> list[str]:
    return [str(place) for place in checkpoints.places(settings, "ann", "a")]


def back(settings: StoreSettings, place: checkpoints.CheckpointPlace, to: Path) -> dict[str, bytes]:
    """Bring a checkpoint onto another pod, as a resumed run does."""
    files = checkpoints.load(place, settings, TOKEN).files
    fetch_to_pod(settings, here(), str(to), [target_of(file.entry, file.source, file.path) for file in files])
    return tree(to)


def test_the_newest_attempts_newest_comes_first_and_each_is_put_back_where_it_lay(
    settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    written(settings, pod, 1, "step-9")
    written(settings, pod, 1, "step-10")  # within the same second: the greater number is the later one
    kept(settings, pod, 1)
    other = Workspace(tmp_path / "other")
    written(settings, other, 2, "last.pt")

    assert names(settings)[0] == "last.pt of attempt 2" and names(settings)[1] == "step-10 of attempt 1"
    assert names(settings).count("step-10 of attempt 1") == 2, "while it ran, and at its end"
    for place in checkpoints.places(settings, "ann", "a"):
        lay = tree(Path((other if place.key.attempt == 2 else pod).output))
        want = {path: body for path, body in lay.items() if path == place.path or path.startswith(place.path + "/")}
        assert want and back(settings, place, tmp_path / place.id.replace("/", "_")) == want


def test_what_an_end_kept_is_newer_than_what_went_ahead_in_the_same_second(
    settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(settings, pod, 1, "step-1")
    pod.write("output/checkpoints/step-2/optimizer.bin", b"newer")
    kept(settings, pod, 1)
    real = bucket.listing
    monkeypatch.setattr(bucket, "listing", lambda *a: [replace(item, modified=1.0) for item in real(*a)])
    assert names(settings)[0] == "step-2 of attempt 1"


def test_a_checkpoint_without_its_marker_is_none(settings: StoreSettings, pod: Workspace) -> None:
    written(settings, pod, 1, "step-1")
    s3(settings).delete_object(Bucket=settings.bucket, Key=f"checkpoints/ann/a/1/step-1/{CHECKPOINT}")

    assert names(settings) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("step-1/optimizer.bin", "optimizer.bin is missing, or other than its manifest says"),
        ("step-1/" + MANIFEST, "is not the one that its marker names"),
        ("step-1/" + CHECKPOINT, "is missing or cannot be read"),
    ],
)
def test_what_does_not_agree_is_told_and_not_taken(damage: str, says: str, settings: StoreSettings, pod: Workspace) -> None:
    written(settings, pod, 1, "step-1")
    (place,) = checkpoints.places(settings, "ann", "a")
    s3(settings).put_object(Bucket=settings.bucket, Key=f"checkpoints/ann/a/1/{damage}", Body=b"something else")

    with pytest.raises(StoreError, match=says):
        checkpoints.load(place, settings, TOKEN)


def test_one_in_a_store_that_tells_no_checksums_is_found_by_who_has_not_tried_the_store(settings: StoreSettings, pod: Workspace) -> None:
    written(replace(settings, checksums="none"), pod, 1, "checkpoint-1")
    [place], untried = checkpoints.places(settings, "ann", "a"), replace(settings, checksums="probe")
    file, *_ = checkpoints.load(place, untried, TOKEN).files
    s3(settings).put_object(Bucket=settings.bucket, Key=file.source, Body=b"of another size, and without a checksum")
    with pytest.raises(StoreError, match="is missing, or other"):
        checkpoints.load(place, untried, TOKEN)


def test_one_of_another_runs_token_or_that_would_lie_elsewhere_is_not_taken(settings: StoreSettings, pod: Workspace) -> None:
    written(settings, pod, 1, "step-1")
    (place,) = checkpoints.places(settings, "ann", "a")
    with pytest.raises(StoreError, match="it is of another run"):
        checkpoints.load(place, settings, "other")

    marker = json.loads(s3(settings).get_object(Bucket=settings.bucket, Key=place.prefix + CHECKPOINT)["Body"].read())
    for path in ("../../etc", 5, ["checkpoints/step-1"]):
        body = json.dumps({**marker, "path": path}).encode()
        s3(settings).put_object(Bucket=settings.bucket, Key=place.prefix + CHECKPOINT, Body=body)
        with pytest.raises(StoreError, match="names no place for it"):
            checkpoints.load(replace(place), settings, TOKEN)


def test_one_that_proves_damaged_on_its_way_to_the_pod_is_told_and_the_one_before_it_is_put_there(
    settings: StoreSettings, pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        written(settings, pod, 1, f"step-{step}")
    newest, before = checkpoints.places(settings, "ann", "a")
    record = make_record(resumed_from=started_from(checkpoints.load(newest, settings)), attempt=2)
    # It was whole when the run was prepared; now a byte of it is another one, under the same size.
    key = f"{newest.prefix}deep/state.json"
    s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=b"[]")
    monkeypatch.setattr(restore, "store_of", lambda *_: settings)
    screen, other = io.StringIO(), Workspace(tmp_path / "other")
    other.write("output/checkpoints/step-2/optimizer.bin", b"what had arrived of it")
    context, folder = CommandContext(cast(Any, None), {}, Ui(stream=screen)), RunFolder(tmp_path / "run")
    reachable = cast(Any, SimpleNamespace(path=lambda *parts: "/".join((str(other.root), *parts))))

    restore.restore(context, record, folder, reachable, here())

    want = {path: body for path, body in tree(Path(pod.output)).items() if path.startswith("checkpoints/step-1/")}
    assert tree(Path(other.output)) == want and record.resumed_from == started_from(checkpoints.load(before, settings))
    assert restore.job_env(record, reachable) == {"TRAINYARD_RESUME": f"{other.output}/checkpoints/step-1"}
    # Where the store keeps no checksum of an object only its bytes tell.
    assert (
        "not taken: " in screen.getvalue()
        and "step-2 of attempt 1" in screen.getvalue()
        and "going on from step-1 of attempt 1" in screen.getvalue()
    )
    assert folder.load().resumed_from == record.resumed_from

    s3(settings).delete_object(Bucket=settings.bucket, Key=before.prefix + MANIFEST)
    with pytest.raises(StoreError, match="no checkpoint is left to go on from"):
        restore.restore(context, record, folder, reachable, here())


def test_one_that_is_another_runs_since_it_was_chosen_is_not_put_on_the_pod_nor_such_a_one_before_it(
    settings: StoreSettings, pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_attempt(settings, places_at(tmp_path), ResultKey("ann", "a", 1), Claim(TOKEN, "ann", "here", "2026-11-29T12:00:00Z"))
    for step in (1, 2):
        written(settings, pod, 1, f"step-{step}")
    newest, _ = checkpoints.places(settings, "ann", "a")
    record = make_record(resumed_from=started_from(checkpoints.load(newest, settings)), attempt=2)
    stranger = Workspace(tmp_path / "stranger")
    monkeypatch.setattr(restore, "store_of", lambda *_: settings)
    other, folder = Workspace(tmp_path / "other"), RunFolder(tmp_path / "run")
    context = CommandContext(cast(Any, None), {}, Ui(stream=io.StringIO()))
    reachable = cast(Any, SimpleNamespace(path=lambda *parts: "/".join((str(other.root), *parts))))

    written(settings, stranger, 1, "step-2", "f" * 32)
    restore.restore(context, record, folder, reachable, here())
    want = {path: body for path, body in tree(Path(pod.output)).items() if path.startswith("checkpoints/step-1/")}
    assert tree(Path(other.output)) == want

    record.resumed_from = started_from(checkpoints.load(newest, settings))
    written(settings, stranger, 1, "step-1", "f" * 32)
    s3(settings).delete_object(Bucket=settings.bucket, Key=newest.prefix + "optimizer.bin")
    with pytest.raises(StoreError, match="no checkpoint is left to go on from"):
        restore.restore(context, record, folder, reachable, here())


def test_a_store_that_refuses_or_damages_a_reading_costs_no_checkpoint(
    through: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        written(through, pod, 1, f"step-{step}")
    (newest, _) = checkpoints.places(through, "ann", "a")
    proxy.faults.append(Fault("Get", "garble", key=MANIFEST))
    chosen = checkpoints.load(newest, through, TOKEN)
    assert proxy.faults[0].done == 1

    record = make_record(resumed_from=started_from(chosen), attempt=2)
    monkeypatch.setattr(restore, "store_of", lambda *_: through)
    context, folder = CommandContext(cast(Any, None), {}, Ui(stream=io.StringIO())), RunFolder(tmp_path / "run")
    reachable = cast(Any, SimpleNamespace(path=lambda *parts: "/".join((str(tmp_path / "other"), *parts))))
    Path(reachable.path("output")).mkdir(parents=True)
    proxy.faults.append(Fault("Get", "fail", times=1000, status=403, code="RequestTimeTooSkewed"))
    with pytest.raises(StoreError, match="RequestTimeTooSkewed"):
        restore.restore(context, record, folder, reachable, here())
    assert record.resumed_from == started_from(chosen)
