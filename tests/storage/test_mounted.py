"""A bucket that is mounted on the pod: RunPod's network volume, behind an S3 with RunPod's limits."""

from __future__ import annotations

import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.storage.conftest import Workspace, here, tree
from trainyard.config import Places
from trainyard.errors import PodCannotUpload, StoreError
from trainyard.pod.files import hash_file
from trainyard.rehearsal.runpod.s3 import S3Server, start_s3
from trainyard.runs.planning import datastore
from trainyard.storage import local, mounted, podside
from trainyard.storage.ahead import Ahead, CheckpointRule, Training
from trainyard.storage.client import StoreSettings, s3, with_bucket
from trainyard.storage.commit import Committed, commit, committed
from trainyard.storage.datasend import index_of, send
from trainyard.storage.dataset import lay_out, pod_targets
from trainyard.storage.deliver import DeliveryPatience, silent
from trainyard.storage.download import download
from trainyard.storage.manifest import ResultKey, entry_of
from trainyard.storage.objects import UploadTarget
from trainyard.storage.podfetch import fetch_to_pod
from trainyard.storage.podtargets import StoredObject, target_of_object
from trainyard.storage.stores import store_settings

KEY = ResultKey("ann", "first", 1)
QUICK = DeliveryPatience(rounds=2, pause=lambda seconds: None)


@pytest.fixture
def endpoint(store_places: Places, binary: Path) -> Iterator[S3Server]:
    """RunPod's S3 in front of the real server, for one volume."""
    store = with_bucket(local.ensure(store_places, binary=binary), secrets.token_hex(5))
    s3(store).create_bucket(Bucket=store.bucket)
    port = local.status(store_places).port
    assert port
    server = start_s3(port, store.bucket)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def volume(endpoint: S3Server, store_places: Places) -> Path:
    """The folder that is the bucket."""
    return store_places.store / "data" / endpoint.bucket


@pytest.fixture
def store(endpoint: S3Server, store_places: Places, binary: Path) -> StoreSettings:
    """The bucket as a user's settings name it."""
    keys = local.ensure(store_places, binary=binary)
    env = {
        "RUNPOD_S3_ACCESS_KEY": keys.access_key.reveal(), "RUNPOD_S3_SECRET_KEY": keys.secret_key.reveal(),
        "RUNPOD_S3_ENDPOINT": endpoint.endpoint, "RUNPOD_S3_BUCKET": endpoint.bucket,
    }  # fmt: skip
    found = store_settings(env, "runpod", None, store_places)
    assert found is not None and not found.presign
    return replace(found, attempts=1)


def save(store: StoreSettings, pod: Workspace, volume: Path | None) -> Committed:
    folder = None if volume is None else str(volume)
    return commit(store, here(), KEY, pod.output, ["model/**"], ["*.pt"], patience=QUICK, volume=folder)


def test_the_pod_copies_and_the_controller_proves_and_seals(store: StoreSettings, pod: Workspace, volume: Path, tmp_path: Path) -> None:
    pod.write("job/log", b"l" * 300_000)  # too long to travel inside the scan
    done = save(store, pod, volume)
    assert done.s3_key == "models/ann/first/1/model/" and done.files == 4
    model = "model/model.safetensors"
    assert (volume / "models/ann/first/1" / model).read_bytes() == (pod.root / "output" / model).read_bytes()
    assert (volume / "logs/ann/first/1/train.log").read_bytes() == b"l" * 300_000
    assert not list((volume / "tmp").iterdir()), "neither token nor half a copy is left"
    download(store, "ann/first", tmp_path / "got")
    assert (tmp_path / "got/tokenizer/vocab.txt").read_bytes() == b"a\nb\n"


def test_nothing_that_runpod_lacks_is_asked_of_it(store: StoreSettings, pod: Workspace, volume: Path, endpoint: S3Server) -> None:
    save(store, pod, volume)
    assert endpoint.refused == []


def test_a_second_commit_finds_the_first(store: StoreSettings, pod: Workspace, volume: Path) -> None:
    first = save(store, pod, volume)
    assert save(store, pod, volume) == replace(first, already=True)


def test_a_commit_that_was_cut_off_goes_on_with_what_has_arrived(store: StoreSettings, pod: Workspace, volume: Path) -> None:
    save(store, pod, volume)
    copied = volume / "models/ann/first/1/model/model.safetensors"
    stamp = copied.stat().st_mtime_ns
    (volume / "models/ann/first/1/_SUCCESS").unlink()
    (volume / "models/ann/first/1/model/config.json").unlink()
    assert not save(store, pod, volume).already
    assert copied.stat().st_mtime_ns == stamp, "what is there with the right hash is not copied again"


def test_what_lies_there_with_other_bytes_is_replaced(store: StoreSettings, pod: Workspace, volume: Path) -> None:
    place = volume / "models/ann/first/1/model/config.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(b'{"architectures": {}}\n')
    save(store, pod, volume)
    assert place.read_bytes() == b'{"architectures": []}\n'


def test_without_a_mount_only_ssh_is_left(store: StoreSettings, pod: Workspace) -> None:
    with pytest.raises(PodCannotUpload, match=f"setting 'volume: {store.bucket}' would mount the bucket"):
        save(store, pod, None)


def test_another_volume_is_found_out_before_anything_is_copied(store: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    with pytest.raises(PodCannotUpload, match=f"is not s3://{store.bucket}"):
        save(store, pod, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_copied_into_a_volume_without_room_for_all_of_it(pod: Workspace, volume: Path) -> None:
    item = {"id": 0, "path": "/nowhere", "dest": str(volume / "x"), "size": 1 << 60, "sha256": "0"}
    sent = podside.copy(podside.FinishedPod(here(), pod.output), {"items": [item], "folder": str(volume)}, lambda n: None)
    assert sent.failed[0]["code"] == "NoSpace" and not sent.stored


def test_a_file_that_changes_under_the_copy_does_not_appear(pod: Workspace, volume: Path) -> None:
    source = pod.write("output/model/late.bin", b"after")
    item = {"id": 0, "path": str(source), "dest": str(volume / "models/x"), "size": 5, "sha256": "0" * 64}
    sent = podside.copy(podside.FinishedPod(here(), pod.output), {"items": [item], "folder": str(volume)}, lambda n: None)
    assert sent.failed[0]["code"] == "Changed" and not (volume / "models/x").exists()


def test_a_copy_that_s3_does_not_give_back_is_no_result(
    store: StoreSettings, pod: Workspace, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_nothing(pod: podside.FinishedPod, plan: Mapping[str, Any], on_bytes: podside.OnBytes) -> podside.PlanOutcome:
        return podside.PlanOutcome({item["id"] for item in plan["items"]})

    monkeypatch.setattr(podside, "copy", copy_nothing)
    with pytest.raises(StoreError, match="S3 shows it as absent"):
        save(store, pod, volume)
    assert committed(store, KEY) is None


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("delete_objects", {"Delete": {"Objects": [{"Key": "a"}]}}),
        ("get_bucket_lifecycle_configuration", {}),
        ("get_bucket_versioning", {}),
        ("get_bucket_policy", {}),
        ("get_object_tagging", {"Key": "a"}),
        ("get_bucket_location", {}),
        ("delete_bucket", {}),
    ],
)
def test_the_emulated_store_refuses_what_runpod_refuses(store: StoreSettings, call: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(s3(store), call)(Bucket=store.bucket, **arguments)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_the_emulated_store_takes_no_presigned_url_and_knows_one_volume(store: StoreSettings) -> None:
    url = s3(store).generate_presigned_url("get_object", Params={"Bucket": store.bucket, "Key": "a"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3(store).list_objects_v2(Bucket="another")


def test_data_come_out_of_the_mounted_volume(store: StoreSettings, volume: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/rows").write_bytes(body := os.urandom(3 << 20))
    laid_out = lay_out(datastore.of_folder(tmp_path / "set"), md5=True)
    send(store, laid_out, 0.0, patience=QUICK)
    assert send(store, laid_out, 0.0, patience=QUICK).sent == 0
    done = fetch_to_pod(store, here(), str(tmp_path), pod_targets(index_of(store, laid_out.dataset.sha256)), volume=str(volume))
    assert done.road == "volume" and (tmp_path / "rows").read_bytes() == body


def live(store: StoreSettings, pod: Workspace, volume: Path) -> Ahead:
    pod.write("output/checkpoints/checkpoint-10/state.pt", b"s" * 100_000)
    pod.write("output/checkpoints/checkpoint-10/complete.json", b'{"state.pt": 100000}')
    rule = CheckpointRule("checkpoints/checkpoint-*", "complete.json", keep=1, every=0.0)
    one = Ahead(store, here(), Training(KEY, "t", pod.output, ["model/**"], ["*.pt"], rule), str(volume), patience=QUICK)
    one.begin()
    return one


def test_while_a_training_runs_only_its_checkpoints_are_copied(store: StoreSettings, pod: Workspace, volume: Path) -> None:
    one = live(store, pod, volume)
    newest = one.send_files()
    assert newest == "checkpoints/checkpoint-10" and not Path(volume, "models").exists()
    assert one.save_checkpoint(newest) and one.unpruned is None
    files = {"complete.json", "optimizer.pt", "state.pt"}
    assert set(tree(volume / KEY.checkpoints / "checkpoint-10")) == files | {"_CHECKPOINT", "_manifest.json"}


def test_a_checkpoint_leaves_room_for_the_next_one(store: StoreSettings, pod: Workspace, volume: Path) -> None:
    one = live(store, pod, volume)
    room = os.statvfs(volume)
    free = room.f_bavail * room.f_frsize
    with pytest.raises(StoreError, match="must stay free"):
        mounted.deliver(store, podside.FinishedPod(here(), pod.output), [target(pod)], str(volume), silent, QUICK, spare=2 * free)
    assert one.send_files()


def target(pod: Workspace) -> UploadTarget:
    file = Path(pod.output, "checkpoints", "checkpoint-10", "state.pt")
    return UploadTarget(entry_of(hash_file(str(file), 1 << 20, False)[0], "state.pt"), str(file), "tmp/state.pt")


def test_what_nobody_has_read_is_not_taken_out_of_another_volume(store: StoreSettings, volume: Path, tmp_path: Path) -> None:
    s3(store).put_object(Bucket=store.bucket, Key="raw/x", Body=b"right")
    unread = target_of_object(StoredObject("raw/x"), "x", 5)
    for folder in ("other", "in", "there"):
        (tmp_path / folder).mkdir()
    (tmp_path / "other/raw").mkdir()
    (tmp_path / "other/raw/x").write_bytes(b"wrong")
    done = fetch_to_pod(store, here(), str(tmp_path / "in"), [unread], volume=str(tmp_path / "other"), pause=lambda _: None)
    assert done.road == "ssh" and (tmp_path / "in/x").read_bytes() == b"right"
    done = fetch_to_pod(store, here(), str(tmp_path / "there"), [unread], volume=str(volume), pause=lambda _: None)
    assert done.road == "volume" and (tmp_path / "there/x").read_bytes() == b"right"
