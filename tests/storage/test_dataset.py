"""Data in the bucket: sent once, only what is missing, from two machines at a time, through kills and edits; kept while it is used."""

from __future__ import annotations

import os
import random
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tests.storage.conftest import here
from tests.storage.lying_proxy import Fault, LyingProxy
from trainyard.errors import StoreError, UserError
from trainyard.files import sha256_of
from trainyard.runs.life import inputs
from trainyard.storage import dataset, objects
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.datasend import DAY, DataSent, index_of, send
from trainyard.storage.dataset import LaidOut, LocalSource, decode, lay_out, pod_targets
from trainyard.storage.deliver import DeliveryPatience
from trainyard.storage.podfetch import fetch_to_pod

NOW = datetime.now(UTC).timestamp()
QUICK = DeliveryPatience(rounds=3, pause=lambda _: None)
KIB = 1024


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, server: StoreSettings) -> None:
    """Chunks a thousandth as big, so that little data has many; with their MD5 where the server knows nothing better."""
    if server.checksums == "none":
        monkeypatch.setattr(sys.modules[__name__], "lay_out", partial(lay_out, md5=True))
    for name in ("CHUNK", "ALONE", "PACK"):
        monkeypatch.setattr(dataset, name, getattr(dataset, name) // 1024)
    monkeypatch.setattr(dataset, "_EACH", 1)


def sources(folder: Path) -> list[LocalSource]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [LocalSource(p.relative_to(folder).as_posix(), p, p.stat().st_size, sha256_of(p), os.access(p, os.X_OK)) for p in files]


def tree(folder: Path, files: int, size: int = 200, seed: int = 1) -> Path:
    draw = random.Random(seed)
    for number in range(files):
        path = folder / f"part-{number % 10}" / f"{number:05d} é.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(draw.randrange(size)))
    return folder


def bring(settings: StoreSettings, laid: LaidOut, **more: object) -> DataSent:
    return send(settings, laid, NOW, patience=QUICK, **more)  # type: ignore[arg-type]


def read_back(settings: StoreSettings, digest: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    with here() as transport:
        fetch_to_pod(settings, transport, str(folder), pod_targets(index_of(settings, digest)), pause=lambda _: None)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_sent_once_and_comes_back_as_it_was(settings: StoreSettings, tmp_path: Path) -> None:
    folder = tree(tmp_path / "data", 300)
    (folder / "big").write_bytes(os.urandom(100 * KIB + 1))
    (folder / "empty").touch()
    (folder / "run me.sh").write_text("#!/bin/sh\n")
    (folder / "run me.sh").chmod(0o755)
    laid = lay_out(sources(folder))
    first = bring(settings, laid)
    assert first.size == laid.dataset.size and first.sent > first.size, "the index, too"
    assert bring(settings, lay_out(sources(folder))).sent == 0
    back = read_back(settings, laid.dataset.sha256, tmp_path / "pod")
    assert back == {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert os.access(tmp_path / "pod/run me.sh", os.X_OK) and not os.access(tmp_path / "pod/big", os.X_OK)


def test_after_an_edit_only_what_is_missing_is_sent(settings: StoreSettings, tmp_path: Path) -> None:
    folder = tree(tmp_path / "data", 800)
    (folder / "big").write_bytes(body := os.urandom(640 * KIB))
    bring(settings, lay_out(sources(folder)))
    size = lay_out(sources(folder)).dataset.size
    edited = sorted(folder.rglob("*.txt"))[333]
    edited.write_bytes(edited.read_bytes() + b"one more line\n")
    laid = lay_out(sources(folder))
    assert bring(settings, laid).sent - len(laid.dataset.encode()) <= 2 * dataset.CHUNK < size / 10
    (folder / "big").write_bytes(body + b"appended")
    laid = lay_out(sources(folder))
    assert bring(settings, laid).sent - len(laid.dataset.encode()) <= dataset.CHUNK
    edited.unlink()
    (folder / "a new one").write_bytes(b"n")
    laid = lay_out(sources(folder))
    assert bring(settings, laid).sent - len(laid.dataset.encode()) <= 3 * dataset.CHUNK


def test_the_same_files_give_the_same_index_wherever_they_are(tmp_path: Path) -> None:
    one, other = dataset.lay_out(sources(tree(tmp_path / "a", 50))), dataset.lay_out(reversed(sources(tree(tmp_path / "b/c", 50))))  # type: ignore[arg-type]
    assert one.dataset == other.dataset and str(tmp_path) not in one.dataset.encode().decode()
    assert decode(one.dataset.encode(), "x") == one.dataset


def test_a_killed_upload_goes_on_and_damage_is_sent_again(through: StoreSettings, proxy: LyingProxy, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(640 * KIB))
    laid = lay_out(sources(tmp_path))
    proxy.faults += [Fault("Put", "fail", 1000, after=12, status=403)]
    with pytest.raises(StoreError, match=r"the data did not get into s3://.*AccessDenied"):
        bring(through, laid)
    proxy.reset()
    arrived = s3(through).list_objects_v2(Bucket=through.bucket)["KeyCount"]
    assert 8 <= arrived <= 12, "those under way when it failed may not have"
    proxy.faults += [Fault("Put", "corrupt"), Fault("Put", "lose"), Fault("Put", "swallow")]
    done = bring(through, laid)
    assert done.sent <= (20 - arrived) * dataset.CHUNK + len(laid.dataset.encode()), "what had arrived is not sent again"
    assert read_back(through, laid.dataset.sha256, tmp_path / "pod") == {"big": (tmp_path / "big").read_bytes()}


def test_two_machines_that_send_the_same_at_once_do_no_harm(settings: StoreSettings, tmp_path: Path) -> None:
    laid = lay_out(sources(tree(tmp_path / "data", 300)))
    done: list[DataSent] = []
    threads = [threading.Thread(target=lambda: done.append(bring(settings, laid))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2 and len(read_back(settings, laid.dataset.sha256, tmp_path / "pod")) == 300


def test_an_answer_without_a_date_tells_what_is_there_and_that_its_age_is_not_known(
    settings: StoreSettings, through: StoreSettings, proxy: LyingProxy, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"a" * 100)
    laid = lay_out(sources(tmp_path))
    bring(settings, laid)
    chunk = laid.dataset.chunks[0]
    proxy.faults.append(Fault("Head", "undate", times=99))
    seen = objects.look(
        replace(through, checksums=settings.checksums), objects.UploadTarget(chunk.entry, "", chunk.key, (chunk.md5,) if chunk.md5 else ())
    )
    assert (seen.proof, seen.modified) == ("there", 0.0)
    assert bring(through, laid, keep_days=30) == DataSent(100, 0, 2), "what may be old is made new"


def test_data_that_are_used_do_not_grow_old(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"a" * 100)
    laid = lay_out(sources(tmp_path))
    bring(settings, laid)
    target = objects.UploadTarget(laid.dataset.chunks[0].entry, "", laid.dataset.chunks[0].key)
    assert bring(settings, laid, keep_days=30) == DataSent(100, 0, 0)
    before = objects.look(settings, target).modified
    later = send(settings, laid, before + 16 * DAY, keep_days=30, patience=QUICK)
    assert later == DataSent(100, 0, 2), "after half of its days each object is as new, and nothing travels"
    assert objects.look(settings, target).modified >= before and objects.proof(settings, target) == "there"
    refused = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}

    def no_copy(**_: object) -> None:
        raise s3(settings).exceptions.ClientError(refused, "CopyObject")

    monkeypatch.setattr(s3(settings), "copy_object", no_copy)
    again = send(settings, laid, before + 16 * DAY, keep_days=30, patience=QUICK)
    assert again.renewed == 0 and again.sent > 100, "what cannot be renewed is sent again"


def test_what_is_in_the_bucket_under_a_wrong_name_is_replaced_and_never_trained_on(
    settings: StoreSettings, tmp_path: Path, quick: None
) -> None:
    (tmp_path / "a").write_bytes(b"a" * 100)
    laid = lay_out(sources(tmp_path))
    s3(settings).put_object(Bucket=settings.bucket, Key=laid.dataset.chunks[0].key, Body=b"b" * 100)
    assert bring(settings, laid).sent > 100
    s3(settings).put_object(Bucket=settings.bucket, Key=laid.dataset.chunks[0].key, Body=b"b" * 100)
    with pytest.raises(StoreError, match=r"not fetched to the pod: a .Damaged"):
        read_back(settings, laid.dataset.sha256, tmp_path / "pod")
    s3(settings).put_object(Bucket=settings.bucket, Key=f"data/{laid.dataset.sha256}", Body=b"{}")
    with pytest.raises(StoreError, match="somebody has changed the bucket") as refused:
        index_of(settings, laid.dataset.sha256)
    assert refused.value.code in inputs._SENT_AGAIN, "a run whose files are still here sends them once more"


def test_a_file_that_is_written_meanwhile_is_refused_by_name(settings: StoreSettings, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 100)
    seen = sources(tmp_path)
    laid = lay_out(seen)
    for body in (b"b" * 100, b"short"):
        (tmp_path / "a").write_bytes(body)
        with pytest.raises(UserError, match=r"/a: was changed while the run was prepared"):
            lay_out(seen)
        with pytest.raises(UserError, match=r"/a: was changed while the run was prepared"):
            bring(settings, laid)


def test_a_store_without_checksums_proves_by_md5(settings: StoreSettings, tmp_path: Path) -> None:
    plain = replace(settings, checksums="none", conditional=False)
    laid = lay_out(sources(tree(tmp_path / "data", 20)), md5=True)
    assert bring(plain, laid).sent > 0 and bring(plain, laid).sent == 0
    s3(plain).put_object(Bucket=plain.bucket, Key=laid.dataset.chunks[0].key, Body=b"b" * laid.dataset.chunks[0].size)
    assert bring(plain, laid).sent == laid.dataset.chunks[0].size


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"version": 2}',
        b'{"version":1,"chunks":[],"files":[["../up",0,"x"]]}',
        b'{"version":1,"chunks":[],"files":[["a",5,"x"]]}',
        b'{"version":1,"chunks":[["",0,"AAAAAA=="]],"files":[]}',
        b'{"version":1,"chunks":[["../models/x",0,"AAAAAA=="]],"files":[]}',
        b'{"version":1,"chunks":[["%s",0,"AAAAAA=="]],"files":[]}' % (b"0" * 64),
        b'{"version":1,"chunks":[],"files":[["a",0,"/etc/x"]]}',
        b'{"version":1,"chunks":[["%s",Infinity,"AAAAAA=="]],"files":[]}' % (b"0" * 64),
    ],
)
def test_an_index_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(StoreError, match="s3://b/data/x: is"):
        decode(body, "s3://b/data/x")
