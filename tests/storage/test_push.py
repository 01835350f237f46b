"""What came home over SSH is pushed and sealed later, and no upload is left open."""

from __future__ import annotations

import os
from dataclasses import replace
from io import IOBase
from pathlib import Path

import pytest

from tests.storage.conftest import PART, Workspace, here, tree
from tests.storage.lying_proxy import Fault, LyingProxy
from tests.storage.test_commit import EXCLUDES, HASTE, OUTPUTS, WHERE, keys, open_uploads, run
from trainyard.errors import ForeignResult, StoreError
from trainyard.storage import direct, objects
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.download import download
from trainyard.storage.manifest import Keep
from trainyard.storage.push import push

TOKEN = "a" * 32


@pytest.fixture
def home(pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A result that came home over SSH, one of its files in two parts."""
    monkeypatch.setattr(direct, "PART_SIZE", PART)
    direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home", token=TOKEN)
    return tmp_path / "home"


def left_open(settings: StoreSettings, key: str) -> str:
    upload = s3(settings).create_multipart_upload(Bucket=settings.bucket, Key=key, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    s3(settings).upload_part(
        Bucket=settings.bucket, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * PART, ChecksumAlgorithm="CRC32"
    )
    return str(upload["UploadId"])


@pytest.mark.parametrize("checksums", ["full", "composite", "none"])
def test_what_came_home_is_committed_as_the_pod_would_have(checksums: str, settings: StoreSettings, home: Path, tmp_path: Path) -> None:
    weaker = replace(settings, checksums=checksums)  # type: ignore[arg-type]
    (tmp_path / "train.log").write_bytes(b"step 1\n")
    done = push(weaker, home, {"train.log": tmp_path / "train.log"}, patience=HASTE)
    assert done.s3_key == WHERE.model and not done.already
    download(settings, str(WHERE), tmp_path / "got")
    assert tree(tmp_path / "got") == tree(home / "model")
    assert WHERE.logs + "train.log" in keys(settings) and open_uploads(settings) == 0
    assert push(weaker, home, {}, patience=HASTE) == replace(done, already=True)


def test_a_push_goes_on_with_what_the_pod_had_sent(through: StoreSettings, proxy: LyingProxy, pod: Workspace, home: Path) -> None:
    proxy.faults.append(Fault("Complete", "fail", times=99, status=503))
    with pytest.raises(StoreError) as caught:
        run(through, pod, token=TOKEN)
    assert caught.value.passing and open_uploads(through) == 1
    proxy.reset()
    push(through, home, {}, patience=HASTE)
    assert proxy.count("UploadPart") == 0 and proxy.count("Complete") == 1 and open_uploads(through) == 0


def test_a_file_that_was_changed_at_home_is_not_pushed(settings: StoreSettings, home: Path) -> None:
    (home / "model/config.json").write_bytes(b"other")
    with pytest.raises(StoreError, match=r"config\.json: is not the file that came home"):
        push(settings, home, {}, patience=HASTE)
    assert WHERE.success not in keys(settings)


def test_parts_are_sent_from_their_file_and_not_held_in_memory(
    settings: StoreSettings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[object] = []
    send = objects.put_part

    def seen(store: StoreSettings, work: objects.PendingUpload, number: int, body: bytes | IOBase) -> None:
        bodies.append(body)
        send(store, work, number, body)

    monkeypatch.setattr(objects, "put_part", seen)
    push(settings, home, {}, patience=HASTE)
    assert bodies and not any(isinstance(body, bytes) for body in bodies)


def test_what_was_kept_is_pushed_as_no_success(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    keep = Keep("exited 1", 1)
    direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home", token=TOKEN, keep=keep)
    done = push(settings, tmp_path / "home", {}, patience=HASTE)
    assert done.ending is not None and done.ending.why == "exited 1"
    assert WHERE.kept in keys(settings) and WHERE.success not in keys(settings)


@pytest.mark.parametrize("size", [1000, PART + 1])
def test_a_file_with_the_longest_name_there_is_replaces_what_lies_in_its_place(size: int, settings: StoreSettings, tmp_path: Path) -> None:
    source = tmp_path / "output/model" / ("x" * 255)
    source.parent.mkdir(parents=True)
    source.write_bytes(os.urandom(size))
    direct.fetch(here(), WHERE, str(tmp_path / "output"), ["model/**"], [], tmp_path / "home", token=TOKEN)
    key = WHERE.model + source.name
    s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=b"what an earlier controller has left there")
    push(settings, tmp_path / "home", {}, patience=HASTE)
    assert s3(settings).get_object(Bucket=settings.bucket, Key=key)["Body"].read() == source.read_bytes()


def test_another_runs_result_is_never_written_over(settings: StoreSettings, pod: Workspace, home: Path) -> None:
    run(settings, pod, token="b" * 32)
    with pytest.raises(ForeignResult):
        push(settings, home, {}, patience=HASTE)


def test_no_upload_is_open_after_a_commit_whoever_left_it(settings: StoreSettings, pod: Workspace) -> None:
    for key in (WHERE.model + "gone.bin", WHERE.model + "model.safetensors", WHERE.logs + "train.log"):
        left_open(settings, key)
    run(settings, pod)
    assert open_uploads(settings) == 0


def test_a_commit_of_what_was_sealed_by_a_controller_that_then_died_leaves_no_upload_open(settings: StoreSettings, pod: Workspace) -> None:
    run(settings, pod)
    for key in (WHERE.model + "model.safetensors", WHERE.logs + "train.log", WHERE.checkpoints + "10/optimizer.pt", WHERE.pod_tar):
        left_open(settings, key)
    assert run(settings, pod).already and open_uploads(settings) == 0


def test_a_push_of_what_is_committed_already_leaves_no_upload_open(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home", token=TOKEN)
    push(settings, tmp_path / "home", {}, patience=HASTE)
    left_open(settings, WHERE.pod_tar)
    assert push(settings, tmp_path / "home", {}, patience=HASTE).already and open_uploads(settings) == 0


def test_open_uploads_are_listed_with_their_bytes_and_dropped_by_prefix(settings: StoreSettings) -> None:
    first, second = left_open(settings, "models/a/r/1/model/x"), left_open(settings, "models/a/r/1/model/x")
    other = left_open(settings, "models/b/r/1/model/x")
    found = objects.open_uploads(settings)
    assert {one.upload_id for one in found} == {first, second, other} and {one.bytes for one in found} == {PART}
    assert all(one.begun > 1e9 for one in found)
    assert objects.drop_below(settings, "models/a/") == 2
    assert [one.upload_id for one in objects.open_uploads(settings, "models/")] == [other]


def test_an_error_of_a_commit_says_whether_it_may_pass(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> None:
    for fault, passing in ((Fault("Put", "fail", times=99, status=503), True), (Fault("Put", "swallow", times=99), False)):
        proxy.faults.append(fault)
        with pytest.raises(StoreError) as caught:
            run(through, pod, logs={})
        assert caught.value.passing is passing
        proxy.reset()
    assert os.listdir(pod.output)
