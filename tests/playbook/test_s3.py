"""s3: between a bucket of a real server and a host, by signed addresses; nothing takes its place that is not proven."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.playbook.conftest import Run, Shown
from tests.storage.conftest import binary, server, settings, store_places  # noqa: F401 (fixtures)
from trainyard.storage.client import StoreSettings
from trainyard.storage.client import s3 as client


@pytest.fixture
def store(settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> StoreSettings:  # noqa: F811
    """A fresh bucket, and the environment of a person who has its keys."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", settings.endpoint or "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.access_key.reveal())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.secret_key.reveal())
    monkeypatch.setenv("AWS_DEFAULT_REGION", settings.region)
    return settings


def changed(shown: Shown) -> int:
    assert shown.report.reason() == "", shown.text
    return shown.report.tallies["pod"].changed


def test_an_object_comes_to_the_host_once_and_again_when_either_side_changes(run: Run, store: StoreSettings, tmp_path: Path) -> None:
    client(store).put_object(Bucket=store.bucket, Key="d/o b", Body=b"one")
    text = f"- amazon.aws.s3_object: {{bucket: {store.bucket}, object: d/o b, dest: '{{{{ tmp }}}}/to/', mode: get}}\n  register: r"
    assert changed(run(text, check=True)) == 1 and not (tmp_path / "to").exists()
    assert [changed(run(text)) for _ in range(2)] == [1, 0] and (tmp_path / "to/o b").read_bytes() == b"one"
    (tmp_path / "to/o b").write_bytes(b"two")
    kept = text.replace("mode: get", "mode: get, overwrite: never")
    assert changed(run(kept)) == 0 and changed(run(text, check=True)) == 1 and changed(run(text)) == 1
    client(store).put_object(Bucket=store.bucket, Key="d/o b", Body=b"three")
    assert changed(run(text)) == 1 and (tmp_path / "to/o b").read_bytes() == b"three"
    assert sorted(os.listdir(tmp_path / "to")) == ["o b"]


def test_an_object_of_parts_has_no_md5_and_is_compared_by_what_it_holds(run: Run, store: StoreSettings, tmp_path: Path) -> None:
    data = os.urandom(5 * 1024 * 1024 + 10)
    where = {"Bucket": store.bucket, "Key": "big"}
    upload = client(store).create_multipart_upload(**where)["UploadId"]
    pieces = (data[: 5 * 1024 * 1024], data[5 * 1024 * 1024 :])
    parts = [
        {"PartNumber": n, "ETag": client(store).upload_part(**where, UploadId=upload, PartNumber=n, Body=piece)["ETag"]}
        for n, piece in enumerate(pieces, 1)
    ]
    client(store).complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    digest = hashlib.sha256(data).hexdigest()
    text = f"- s3: {{url: 's3://{store.bucket}/big', dest: '{{{{ tmp }}}}/big', mode: get}}"
    assert [changed(run(text)) for _ in range(2)] == [1, 0] and (tmp_path / "big").read_bytes() == data
    assert changed(run(text.replace("mode: get", f"mode: get, sha256: {digest}"))) == 0
    wrong = run(text.replace("mode: get", f"mode: get, sha256: {'a' * 64}"))
    assert "another hash" in wrong.report.reason() and (tmp_path / "big").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "play.yml"]


def test_a_file_of_the_host_goes_into_the_bucket_and_is_listed(run: Run, store: StoreSettings, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"data\0")
    text = f"""
        - s3: {{bucket: {store.bucket}, object: out/f, src: "{{{{ tmp }}}}/f", mode: put}}
        - s3: {{bucket: {store.bucket}, prefix: out/, mode: list}}
          register: r
        - assert: {{that: "r.s3_keys == ['out/f']"}}
        """
    assert changed(run(text)) == 1 and changed(run(text)) == 0
    assert client(store).get_object(Bucket=store.bucket, Key="out/f")["Body"].read() == b"data\0"
    (tmp_path / "f").write_bytes(b"other")
    assert changed(run(text.replace("mode: put", "mode: put, overwrite: never"))) == 0 and changed(run(text)) == 1


def test_no_key_and_no_address_is_shown_or_told_to_the_host(run: Run, store: StoreSettings, tmp_path: Path) -> None:
    client(store).put_object(Bucket=store.bucket, Key="o", Body=b"1")
    (tmp_path / "bin").mkdir()
    spy = tmp_path / "bin/curl"
    spy.write_text('#!/bin/sh\necho "$@" >"$0.words"; env >"$0.env"; exec /usr/bin/curl "$@"\n')
    spy.chmod(0o755)
    play = f"""
        - hosts: all
          environment: {{PATH: "{tmp_path}/bin:{os.environ["PATH"]}"}}
          tasks:
            - s3: {{url: "s3://{store.bucket}/o", dest: "{{{{ tmp }}}}/o", mode: get}}
        """
    os.environ["PATH"] = f"{tmp_path}/bin:{os.environ['PATH']}"
    try:
        shown = run(play, verbose=True)
    finally:
        os.environ["PATH"] = os.environ["PATH"].partition(":")[2]
    assert changed(shown) == 1 and "Signature" not in shown.text
    assert "X-Amz" not in Path(f"{spy}.words").read_text() and store.secret_key.reveal() not in shown.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("url: https://x/y, dest: /d, mode: get", "'url' is s3://BUCKET/OBJECT"),
        ("bucket: some, mode: get, dest: /d", "needs an object"),
        ("bucket: some, object: o, mode: put", "needs an object and 'src'"),
        ("bucket: some, object: o, src: /none, mode: put, overwrite: maybe", "always, never or different"),
    ],
)
def test_what_is_not_whole_is_refused(run: Run, arguments: str, words: str) -> None:
    assert words in run(f"- s3: {{{arguments}}}").report.reason()


def test_what_is_not_there_is_said(run: Run, store: StoreSettings) -> None:
    shown = run(f"- s3: {{bucket: {store.bucket}, object: none, dest: '{{{{ tmp }}}}/x', mode: get}}")
    assert f"there is no s3://{store.bucket}/none" in shown.report.reason()
    shown = run(f"- s3: {{bucket: {store.bucket}, object: o, src: '{{{{ tmp }}}}/none', mode: put}}")
    assert "there is no file" in shown.report.reason()
