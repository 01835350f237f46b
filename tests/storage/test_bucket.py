"""The bucket on the real server: adopted, created, proven; never emptied."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace

import pytest

from tests.storage.lying_proxy import Fault, LyingProxy
from trainyard.errors import StoreError, UserError
from trainyard.secret import Secret
from trainyard.storage import bucket, canary
from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, s3


def put(settings: StoreSettings, key: str, body: bytes = b"x") -> None:
    s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=body)


def test_a_bucket_is_created_once_and_adopted_with_its_objects_afterwards(settings: StoreSettings) -> None:
    fresh = replace(settings, bucket=settings.bucket + "-new")
    assert bucket.exists(fresh) is False
    assert bucket.adopt_or_create(fresh) is False
    put(fresh, "kept")
    assert bucket.adopt_or_create(fresh) is True
    assert [item.key for item in bucket.listing(fresh)] == ["kept"]


def test_the_local_bucket_keeps_versions(settings: StoreSettings) -> None:
    assert s3(settings).get_bucket_versioning(Bucket=settings.bucket)["Status"] == "Enabled"


def test_a_key_that_may_not_use_a_bucket_is_told_and_nothing_was_changed(through: StoreSettings, proxy: LyingProxy) -> None:
    proxy.faults.append(Fault("any", "fail", times=99, status=403))
    with pytest.raises(StoreError, match=r"may not use it \(AccessDenied\).*; nothing was changed") as caught:
        bucket.adopt_or_create(through)
    assert caught.value.code == "AccessDenied" and not caught.value.passing


@pytest.mark.parametrize(
    ("change", "code"),
    [({"secret_key": Secret("wrong")}, "SignatureDoesNotMatch"), ({"access_key": Secret("nobody")}, "InvalidAccessKeyId")],
)
def test_a_wrong_key_is_not_called_somebody_elses_bucket(change: dict[str, Secret], code: str, settings: StoreSettings) -> None:
    for call in (bucket.adopt_or_create, canary.require, bucket.exists):
        with pytest.raises(StoreError, match=code) as caught:
            call(replace(settings, **change))  # type: ignore[arg-type]
        assert caught.value.code == code and "somebody else" not in str(caught.value) and caught.value.hint


def test_a_clock_that_is_wrong_is_told_as_such(through: StoreSettings, proxy: LyingProxy) -> None:
    proxy.faults += [Fault("HeadBucket", "fail", status=403), Fault("List", "fail", status=403, code="RequestTimeTooSkewed")]
    with pytest.raises(StoreError, match="RequestTimeTooSkewed") as caught:
        bucket.adopt_or_create(through)
    assert "clock" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("fault", "passing"),
    [
        (Fault("Head", "fail", times=9, status=503), True),
        (Fault("Head", "drop", times=9), True),
        (Fault("Head", "fail", times=9, status=403), False),
        (Fault("Head", "fail", times=9, status=507), False),
    ],
)
def test_an_error_says_whether_the_same_request_may_succeed_later(
    fault: Fault, passing: bool, through: StoreSettings, proxy: LyingProxy
) -> None:
    proxy.faults.append(fault)
    with pytest.raises(StoreError) as caught, store_errors("look"):
        s3(through).head_object(Bucket=through.bucket, Key="x")
    assert caught.value.passing is passing


def test_a_missing_runpod_volume_is_never_created(settings: StoreSettings) -> None:
    absent = replace(settings, kind="runpod", bucket="absent-volume")
    with pytest.raises(StoreError, match="has no bucket") as caught:
        bucket.adopt_or_create(absent)
    assert "network volume" in str(caught.value.hint)
    assert bucket.exists(absent) is False


def test_a_store_that_does_not_answer_is_a_store_error(settings: StoreSettings) -> None:
    gone = replace(settings, endpoint="http://127.0.0.1:1", attempts=1)
    for call in (bucket.adopt_or_create, bucket.exists, canary.require, bucket.size):
        with pytest.raises(StoreError, match="does not answer"):
            call(gone)


def test_no_bucket_named_is_said(settings: StoreSettings) -> None:
    with pytest.raises(UserError, match="no bucket is named"):
        bucket.adopt_or_create(replace(settings, bucket=""))


def test_size_counts_what_lies_below_a_prefix(settings: StoreSettings) -> None:
    for name in ("a/1", "a/2", "b/1"):
        put(settings, name, b"12345")
    assert bucket.size(settings) == bucket.Size(3, 15)
    assert bucket.size(settings, "a/") == bucket.Size(2, 10)
    assert bucket.folders(settings, "") == ["a", "b"]


def test_a_listing_goes_on_over_pages(settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        put(settings, f"k{number}")
    client = s3(settings)
    whole = client.list_objects_v2
    monkeypatch.setattr(client, "list_objects_v2", lambda **more: whole(**more, MaxKeys=2))
    assert [item.key for item in bucket.listing(settings)] == [f"k{n}" for n in range(5)]


def test_a_store_that_repeats_its_continuation_token_is_an_error_not_a_loop(
    settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        put(settings, f"k{number}")
    client = s3(settings)
    whole = client.list_objects_v2

    def stuck(**more: object) -> object:
        more.pop("ContinuationToken", None)
        return whole(**more, MaxKeys=2)

    monkeypatch.setattr(client, "list_objects_v2", stuck)
    with pytest.raises(StoreError, match="the store repeats itself"):
        list(bucket.listing(settings))


def test_a_key_of_random_bytes_survives_the_round_trip(settings: StoreSettings) -> None:
    name = f"data/ü {secrets.token_hex(4)}+&?#.bin"
    body = os.urandom(100)
    put(settings, name, body)
    [item] = list(bucket.listing(settings))
    assert item.key == name and s3(settings).get_object(Bucket=settings.bucket, Key=item.key)["Body"].read() == body
