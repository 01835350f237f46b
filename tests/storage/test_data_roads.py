"""Whole runs whose data go through a real bucket: sent once, fetched by the pod, never trained on in part."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.road import Road, _resource
from tests.storage.conftest import here
from trainyard.errors import RefusedError, UserError
from trainyard.runs.life.drive import drive
from trainyard.runs.planning import bucketdata, datastore, route
from trainyard.runs.verbs import train
from trainyard.runs.verbs.delete import delete
from trainyard.storage import local
from trainyard.storage.bucket import listing
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.podfetch import fetch_to_pod

HASHES = "find . -type f ! -name '.*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"
KEEP = f"mkdir -p $OUTPUT_DIR/model; (cd $INPUT_DIR && {HASHES}) >$OUTPUT_DIR/model/seen"


class BucketRoad(Road):
    """A road whose environment has a bucket on the real server."""

    def __init__(self, base: Path, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(base, monkeypatch)
        self.store = settings
        self.settings.write_text(self.settings.read_text().replace("bucket: none", f"bucket: {settings.bucket}"))
        monkeypatch.setattr(local, "ensure", lambda *_, **__: settings)
        environment = self.engine._environment

        def with_bucket(stack: Any) -> list[dict[str, Any]]:
            first, *rest = environment(stack)
            return [_resource("pulumi:pulumi:Stack", first["outputs"] | {"bucket": settings.bucket, "store": "local"}), *rest]

        monkeypatch.setattr(self.engine, "_environment", with_bucket)

    def keys(self) -> dict[str, float]:
        """Return the keys below data/ and when they came."""
        return {item.key: item.modified for item in listing(self.store, "data/")}

    def model(self, label: str) -> bytes:
        """Return what the training has seen of its data."""
        body: bytes = s3(self.store).get_object(Bucket=self.store.bucket, Key=f"models/ann/{label}/1/model/seen")["Body"].read()
        return body


@pytest.fixture
def road(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketRoad:
    monkeypatch.setattr(route, "LEAST_BYTES", 1000)
    return BucketRoad(tmp_path, settings, monkeypatch)


def test_a_second_run_sends_neither_data_nor_code_and_has_the_same_bytes(road: BucketRoad, tmp_path: Path) -> None:
    folder, code = tmp_path / "rows", tmp_path / "code"
    folder.mkdir()
    code.mkdir()
    for number in range(60):
        (folder / f"{number} é.txt").write_bytes(os.urandom(50))
    (folder / "big").write_bytes(os.urandom(9 << 20))
    (code / "weights").write_bytes(os.urandom(2 << 20))
    (code / "go.sh").write_text(f"#!/bin/sh\nsha256sum weights; {KEEP}\n")
    (code / "go.sh").chmod(0o755)
    asked = {"recipe": "command", "stack": "dev", "sets": (f"code={code}",), "words": ["./go.sh"], "data": str(folder)}
    for label in ("one", "two"):
        road.screen.truncate(0)
        summary = drive(road.context, train.prepare(road.context, train.TrainRequest(name=label, **asked)))  # type: ignore[arg-type]
        assert summary.success, road.said()
        assert summary.data.stored and summary.code and summary.code.stored and f"data/{summary.data.stored}" in set(road.keys())
        if label == "one":
            keys = road.keys()
            assert "data       9.4 MB sent to s3://" in road.said() and road.model("one").count(b"\n") == 61
    assert road.keys() == keys and road.model("one") == road.model("two")
    assert "code       all 2.1 MB are in s3://" in road.said() and "data       all 9.4 MB are in s3://" in road.said()


def test_what_the_bucket_has_lost_or_spoilt_is_sent_again_from_this_machine(road: BucketRoad, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(body := os.urandom(5000))
    folder = road.prepare(KEEP, name="one", data=str(tmp_path / "x"))
    chunk = f"data/{hashlib.sha256(body).hexdigest()}"
    s3(road.store).delete_object(Bucket=road.store.bucket, Key=chunk)
    assert drive(road.context, folder).success, road.said()
    assert "it is not in the bucket" in road.said() and "It is sent once more from this machine" in road.said()
    assert road.model("one") == f"{hashlib.sha256(body).hexdigest()}  ./x\n".encode()
    folder = road.prepare(KEEP, name="spoilt", data=str(tmp_path / "x"))
    s3(road.store).put_object(Bucket=road.store.bucket, Key=f"data/{folder.load().data.stored}", Body=b"{}")
    shutil.rmtree(road.workspace)
    road.armed()
    assert drive(road.context, folder).success and "is another object than its name says" in road.said(), road.said()
    shutil.rmtree(road.workspace)
    road.armed()
    folder = road.prepare(KEEP, name="two", data=str(tmp_path / "x"))
    with pytest.raises(RefusedError, match=r"ann/two is not over and needs data/"):
        delete(road.context, "dev", f"data/{folder.load().data.stored}", dry_run=False, yes=True)
    s3(road.store).delete_object(Bucket=road.store.bucket, Key=f"data/{folder.load().data.stored}")
    (tmp_path / "x").unlink()
    shutil.rmtree(road.workspace)
    road.armed()
    summary = drive(road.context, folder)
    assert not summary.success and "is not in the bucket (any more)" in (summary.error or ""), "nothing is trained without its data"
    assert not folder.log.is_file() or b"run:" not in folder.log.read_bytes()


def test_little_data_take_the_way_over_ssh_and_lie_in_the_bucket_for_who_resumes(road: BucketRoad, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 999)
    summary = road.run(KEEP, name="one", data=str(tmp_path / "x"))
    assert summary.success and summary.data.stored is None and "data from" not in road.said()
    assert f"data/{summary.data.in_bucket}" in set(road.keys()), road.said()


def test_what_takes_the_way_over_ssh(road: BucketRoad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"x" * 999)
    assert road.prepare(KEEP, name="little", data=str(tmp_path / "x")).load().data.stored is None
    (tmp_path / "x").write_bytes(b"x" * 5000)
    elsewhere = replace(road.store, kind="s3", endpoint="https://store.example.com")
    monkeypatch.setattr(datastore, "store_of", lambda *_: elsewhere)
    here = road.prepare(KEEP, name="here", data=str(tmp_path / "x"))
    assert here.load().data.stored is None, "from a stack whose pods are on this machine nothing leaves it"
    monkeypatch.setattr(datastore, "store_of", lambda *_: replace(road.store, presign=False))
    unsigned = road.prepare(KEEP, name="unsigned", data=str(tmp_path / "x"))
    assert unsigned.load().data.stored is None, "no pod could read it there"
    assert road.keys() == {}


def test_an_object_that_is_overwritten_meanwhile_is_taken_as_it_was_or_not_at_all(
    road: BucketRoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = f"s3://{road.store.bucket}/raw"
    s3(road.store).put_bucket_versioning(Bucket=road.store.bucket, VersioningConfiguration={"Status": "Enabled"})
    s3(road.store).put_object(Bucket=road.store.bucket, Key="raw/a.txt", Body=b"old")
    folder = road.prepare(KEEP, name="one", data=reference)
    s3(road.store).put_object(Bucket=road.store.bucket, Key="raw/a.txt", Body=b"new")
    assert drive(road.context, folder).success, road.said()
    assert road.model("one").startswith(hashlib.sha256(b"old").hexdigest().encode()), "this bucket keeps versions"
    (file,) = folder.load().data.files
    assert file.sha256 == hashlib.sha256(b"old").hexdigest() and file.etag, "nobody had read it before the pod did"
    assert "it was changed since it was looked at\nThe version that was looked at is taken." in road.said()
    monkeypatch.setattr(bucketdata, "MOST_VERSIONS", 0)
    folder = road.prepare(KEEP, name="two", data=reference)
    s3(road.store).put_object(Bucket=road.store.bucket, Key="raw/a.txt", Body=b"one")
    shutil.rmtree(road.workspace)
    road.armed()
    summary = drive(road.context, folder)
    assert not summary.success and "raw/a.txt: it was changed since it was looked at" in (summary.error or "")


def test_google_storage_is_read_with_its_own_keys(road: BucketRoad, tmp_path: Path) -> None:
    s3(road.store).put_object(Bucket=road.store.bucket, Key="raw/a.txt", Body=b"a")
    keys = {"GCS_ACCESS_KEY_ID": road.store.access_key.reveal(), "GCS_SECRET_ACCESS_KEY": road.store.secret_key.reveal()}
    env = {**road.context.env, **keys, "GCS_ENDPOINT_URL": road.store.endpoint or ""}
    road.context = replace(road.context, env=env)
    files = road.prepare(KEEP, name="one", data=f"gs://{road.store.bucket}/raw/").load().data.files
    assert [(file.src, file.dest, bool(file.etag)) for file in files] == [(f"gs://{road.store.bucket}/raw/a.txt", "a.txt", True)]
    google, targets = bucketdata.pod_targets(road.context, None, files)
    (tmp_path / "in").mkdir()
    with here() as transport:
        assert fetch_to_pod(google, transport, str(tmp_path / "in"), targets).sha256 == {"a.txt": hashlib.sha256(b"a").hexdigest()}
    road.context = replace(road.context, env={key: value for key, value in env.items() if not key.startswith("GCS")})
    with pytest.raises(UserError, match="no credentials of its store are set") as caught:
        road.prepare(KEEP, name="two", data=f"gs://{road.store.bucket}/raw/")
    assert "GCS_ACCESS_KEY_ID and GCS_SECRET_ACCESS_KEY" in (caught.value.hint or "")
