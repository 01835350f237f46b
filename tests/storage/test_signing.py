"""Signed URLs: those of the client, without a client."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace

import botocore.auth
import pytest

from trainyard.secret import Secret
from trainyard.storage import signing
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.signing import signed_url

PLAIN = StoreSettings("s3", "https://store.example:9000", "eu-1", "my-bucket", Secret("an/id+of a key"), Secret("sec/ret+"))
NAMES = ("x", "models/u/r/1/model/a b+c~d'(1)*!.bin", "ünï/€/#?&=%41", "a//b/../c/./", "back\\slash", "q" * 900)


@pytest.fixture(autouse=True)
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both sign at the same second."""
    then = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    monkeypatch.setattr(time, "time", then.timestamp)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: then)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "settings",
    [
        PLAIN,
        replace(PLAIN, endpoint="http://127.0.0.1:7000", session_token=Secret("a/token+=")),
        replace(PLAIN, endpoint="https://acc.r2.cloudflarestorage.com", region="auto", kind="r2"),
    ],
)
def test_a_url_for_reading_is_the_one_that_the_client_signs(settings: StoreSettings, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = {"Bucket": "my-bucket", "Key": name}
    theirs = s3(settings).generate_presigned_url("get_object", Params=bound, ExpiresIn=900)
    monkeypatch.setattr(signing, "s3", None)

    path, query = signed_url(settings, "get_object", bound, most=900).split("?")
    assert path == theirs.split("?")[0]
    assert sorted(query.split("&")) == sorted(theirs.split("?")[1].split("&"))  # a signature is of the sorted ones


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("head_object", {"ChecksumMode": "ENABLED"}),
        ("put_object", {"ContentLength": 12, "ChecksumAlgorithm": "SHA256", "ChecksumSHA256": "+/8=", "IfNoneMatch": "*"}),
        ("put_object", {"ContentLength": 0, "ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}),
        (
            "upload_part",
            {"ContentLength": 9, "ChecksumAlgorithm": "CRC32", "ChecksumCRC32": "AA+/==", "UploadId": "a/b+c=", "PartNumber": 10},
        ),
    ],
)
def test_a_url_is_bound_to_what_the_client_would_bind_it_to(method: str, more: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    bound = {"Bucket": "my-bucket", "Key": "a/b c", **more}
    theirs = s3(PLAIN).generate_presigned_url(method, Params=bound, ExpiresIn=900)
    monkeypatch.setattr(signing, "s3", None)

    path, query = signed_url(PLAIN, method, bound, most=900).split("?")
    assert path == theirs.split("?")[0] and sorted(query.split("&")) == sorted(theirs.split("?")[1].split("&"))


@pytest.mark.parametrize(
    "endpoint", [None, "https://store.example:443", "http://store.example:80", "https://store.example/below", "https://Store.example"]
)
def test_where_an_address_may_be_written_in_several_ways_the_client_signs(endpoint: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, bound = replace(PLAIN, endpoint=endpoint), {"Bucket": "my-bucket", "Key": "x"}
    theirs = s3(settings).generate_presigned_url("get_object", Params=bound, ExpiresIn=900)
    monkeypatch.setattr(signing, "_signed", None)

    assert signed_url(settings, "get_object", bound, most=900) == theirs
