"""The manifest: deterministic, read strictly, never a way out of the folder."""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from trainyard.errors import StoreError
from trainyard.pod.files import hash_file
from trainyard.storage.manifest import LeftOut, Manifest, ResultKey, decode, entry_of
from trainyard.storage.objects import etag

KEY = ResultKey("greg", "r1", 2)


def manifest_of(tmp_path: Path, *names: str) -> Manifest:
    files = []
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 100)
        files.append(entry_of(hash_file(str(tmp_path / name), 64, False)[0], name))
    return Manifest(KEY, tuple(files), (LeftOut("o.pt", 5, "excluded"),))


def test_a_manifest_survives_the_bucket_and_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    one = manifest_of(tmp_path, "a", "b")
    assert decode(one.encode(), "here") == one
    assert manifest_of(tmp_path, "a", "b").encode() == one.encode()


def test_the_places_of_a_result_follow_from_its_key() -> None:
    assert KEY.model == "models/greg/r1/2/model/" and KEY.logs == "logs/greg/r1/2/"
    assert KEY.success == "models/greg/r1/2/_SUCCESS" and KEY.manifest == "models/greg/r1/2/_manifest.json"


@pytest.mark.parametrize(("user", "run", "attempt"), [("", "r", 1), ("a/b", "r", 1), ("a", "..", 1), ("a", "r", 0), ("A", "r", 1)])
def test_an_impossible_key_is_no_key(user: str, run: str, attempt: int) -> None:
    with pytest.raises(ValueError, match="not a run"):
        ResultKey(user, run, attempt)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "", "a/.", "a\nb", "a\0b", "x" * 256, "\udcff"])
def test_a_manifest_that_names_a_path_outside_is_refused(path: str, tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(manifest_of(tmp_path, "a").encode())
    document["files"][0]["path"] = path
    with pytest.raises(StoreError, match="is no file of a result: its name"):
        decode(json.dumps(document).encode(), "here")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sha256": "/etc/cron.d/x"}, {"sha256": ""}, {"sha256": None}, {"crc32": "../x"}, {"parts": ["!"]}, {"parts": []},
        {"size": -5}, {"size": 10**18}, {"part_size": 0}, {"part_size": 10**18, "size": 10**18}, {"parts": ["AAAAAA=="] * 1000},
    ],
)  # fmt: skip
def test_an_entry_that_no_scan_can_have_made_is_refused_before_it_names_a_file_or_keeps_one_waiting(
    wrong: dict[str, Any], tmp_path: Path
) -> None:
    document: dict[str, Any] = json.loads(manifest_of(tmp_path, "a").encode())
    document["files"][0] |= wrong
    with pytest.raises(StoreError, match=r"s3://b/m: 'a' is no file of a result: its (checksums are none|parts are not those of its size)"):
        decode(json.dumps(document).encode(), "s3://b/m")


@pytest.mark.parametrize("change", [b'"size": Infinity', b'"size": 1e999', b'"size": NaN'])
def test_a_number_that_is_none_is_no_manifest(change: bytes, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="here: this is no manifest"):
        decode(manifest_of(tmp_path, "a").encode().replace(b'"size": 100', change), "here")


def test_a_manifest_that_names_a_file_twice_is_none(tmp_path: Path) -> None:
    one = manifest_of(tmp_path, "a")
    with pytest.raises(StoreError, match="it names a file twice"):
        decode(Manifest(KEY, one.files * 2).encode(), "here")


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"", "no manifest"), (b"[]", "no manifest"), (b'{"version": 3}', "a later Trainyard"), (b'{"version": 1}', "no manifest")],
)
def test_a_damaged_manifest_is_a_store_error_that_says_where(body: bytes, words: str) -> None:
    with pytest.raises(StoreError, match=f"s3://b/m: .*{words}"):
        decode(body, "s3://b/m")


def test_the_composite_checksum_is_that_of_the_parts_checksums(tmp_path: Path) -> None:
    body = os.urandom(150)
    (tmp_path / "f").write_bytes(body)
    entry = entry_of(hash_file(str(tmp_path / "f"), 64, False)[0], "f")
    parts = [body[:64], body[64:128], body[128:]]
    joined = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    assert entry.composite == base64.b64encode(zlib.crc32(joined).to_bytes(4, "big")).decode() + "-3"
    assert [entry.part(n) for n in (1, 2, 3)] == [(0, 64), (64, 64), (128, 22)]


def test_the_etag_of_a_store_without_checksums_is_md5_or_md5_of_md5s() -> None:
    assert etag(("0cc175b9c0f1b6a831c399e269772661",)) == "0cc175b9c0f1b6a831c399e269772661"
    assert etag(("0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f")).endswith("-2")
