"""Short-lived keys for a job: they open one prefix and no other, and end with the lease, on real servers; R2's token by its form."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from trainyard.errors import RefusedError, StoreError, UserError
from trainyard.secret import Secret
from trainyard.storage import podkeys, podusers
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.podkeys import KeyScope

SCOPE = KeyScope("data/", "jobs/you/run/1/")


def job(env: Mapping[str, Secret]) -> Any:
    """Return the client that a job makes of its variables."""
    token = env.get("AWS_SESSION_TOKEN")
    return boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL"].reveal(), region_name=env["AWS_REGION"].reveal(),
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"].reveal(), aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"].reveal(),
        aws_session_token=token.reveal() if token else None,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )  # fmt: skip


def prove_confined(settings: StoreSettings, client: Any, *, writes: bool) -> None:
    """Raise AssertionError where a job may do less or more than its scope says."""
    at = {"Bucket": settings.bucket}
    for key in ("data/x", "models/u/r/1/_SUCCESS", "jobs/you/run/12/x", "jobs/you/run/1/x"):
        s3(settings).put_object(**at, Key=key, Body=b"here")
    assert client.get_object(**at, Key="data/x")["Body"].read() == b"here"
    assert client.list_objects_v2(**at, Prefix="data/")["KeyCount"] == 1
    denied: dict[str, Callable[[], Any]] = {
        "another prefix": lambda: client.get_object(**at, Key="models/u/r/1/_SUCCESS"),
        "a neighbour": lambda: client.get_object(**at, Key="jobs/you/run/12/x"),
        "around": lambda: client.get_object(**at, Key="data/../models/u/r/1/_SUCCESS"),
        "list": lambda: client.list_objects_v2(**at),
        "write": lambda: client.put_object(**at, Key="data/x", Body=b"other"),
        "result": lambda: client.put_object(**at, Key="models/u/r/1/_SUCCESS", Body=b"forged"),
        "delete": lambda: client.delete_object(**at, Key="data/x"),
        "policy": lambda: client.get_bucket_policy(**at),
    }
    if not writes:
        denied["own"] = lambda: client.get_object(**at, Key="jobs/you/run/1/x")
    for name, call in denied.items():
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403, 404), name
    if writes:
        client.put_object(**at, Key="jobs/you/run/1/y", Body=b"mine")
        assert client.get_object(**at, Key="jobs/you/run/1/y")["Body"].read() == b"mine"
        client.delete_object(**at, Key="jobs/you/run/1/y")


@pytest.mark.usefixtures("store_places")
@pytest.mark.parametrize("writes", [False, True])
def test_a_user_of_the_local_server_is_confined_and_gone_after_the_teardown(settings: StoreSettings, writes: bool) -> None:
    now = time.time()
    scope = SCOPE if writes else replace(SCOPE, write="")
    keys = podkeys.issue(settings, scope, now + 600, now, role=None)
    other = podkeys.issue(settings, SCOPE, now + 600, now, role=None)
    assert keys.user and keys.end == now + 600 and keys.way == "user" and "AWS_SESSION_TOKEN" not in keys.env
    prove_confined(settings, job(keys.env), writes=writes)
    podkeys.withdraw(settings, keys.user)
    podkeys.withdraw(settings, keys.user)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        job(keys.env).get_object(Bucket=settings.bucket, Key="data/x")
    assert job(other.env).get_object(Bucket=settings.bucket, Key="data/x"), "another run's key stays"
    podkeys.withdraw(settings, str(other.user))
    with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
        s3(settings).get_bucket_policy(Bucket=settings.bucket)


@pytest.mark.usefixtures("store_places")
def test_a_user_whose_teardown_never_came_goes_when_the_next_one_comes_after_its_lease(settings: StoreSettings) -> None:
    now = time.time()
    lost = podkeys.issue(settings, SCOPE, now + 60, now, role=None)
    podkeys.issue(settings, SCOPE, now + 600, now + 30, role=None)
    s3(settings).put_object(Bucket=settings.bucket, Key="data/x", Body=b"here")
    assert job(lost.env).get_object(Bucket=settings.bucket, Key="data/x")
    podkeys.issue(settings, SCOPE, now + 600, now + 61, role=None)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        job(lost.env).get_object(Bucket=settings.bucket, Key="data/x")


@pytest.mark.usefixtures("store_places")
def test_a_rule_of_a_person_s_in_the_bucket_s_policy_stays(settings: StoreSettings) -> None:
    now = time.time()
    podusers._admin(settings, "/create-user", b"<Account><Access>anna</Access><Secret>word12345</Secret><Role>user</Role></Account>", 409)
    theirs = {"Sid": "anna", "Effect": "Allow", "Principal": {"AWS": ["anna"]}, "Action": ["s3:GetObject"]}
    theirs["Resource"] = [f"arn:aws:s3:::{settings.bucket}/public/*"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [theirs]})
    s3(settings).put_bucket_policy(Bucket=settings.bucket, Policy=policy)
    keys = podkeys.issue(settings, SCOPE, now + 60, now, role=None)
    podkeys.withdraw(settings, str(keys.user))
    assert json.loads(s3(settings).get_bucket_policy(Bucket=settings.bucket)["Policy"])["Statement"] == [theirs]


@pytest.mark.parametrize("writes", [False, True])
def test_keys_by_sts_are_confined_by_their_session_policy(minio_store: StoreSettings, writes: bool) -> None:
    now = time.time()
    keys = podkeys.issue(minio_store, SCOPE if writes else replace(SCOPE, write=""), now + 1200, now, role=None)
    assert keys.way == "sts" and keys.user is None and keys.end is not None and now + 1100 < keys.end < now + 1300
    prove_confined(minio_store, job(keys.env), writes=writes)


def test_r2_s_token_is_signed_here_as_its_documentation_says() -> None:
    r2 = StoreSettings("r2", "https://acc0.r2.cloudflarestorage.com", "auto", "my-bucket", Secret("parent"), Secret("parent-secret"))
    keys = podkeys.issue(r2, SCOPE, 1_800_003_600.5, 1_800_000_000.0, role=None)
    session = base64.b64decode(keys.env["AWS_SESSION_TOKEN"].reveal()).decode()
    jwt = session.removeprefix("jwt/")
    header, claims, mac = jwt.split(".")
    assert session.startswith("jwt/") and json.loads(_unpadded(header)) == {"alg": "HS256", "typ": "JWT"}
    assert hmac.new(b"parent-secret", f"{header}.{claims}".encode(), hashlib.sha256).digest() == _unpadded(mac)
    assert json.loads(_unpadded(claims)) == {
        "bucket": "my-bucket", "scope": "object-read-write", "paths": {"prefixPaths": ["jobs/you/run/1/"], "objectPaths": []},
        "sub": "acc0", "iss": "parent", "aud": "acc0.r2.cloudflarestorage.com", "iat": 1_800_000_000, "exp": 1_800_003_600,
    }  # fmt: skip
    assert keys.env["AWS_ACCESS_KEY_ID"].reveal() == "parent" and keys.end == 1_800_003_600
    assert keys.env["AWS_SECRET_ACCESS_KEY"].reveal() == hashlib.sha256(jwt.encode()).hexdigest()
    read = podkeys.issue(r2, replace(SCOPE, write=""), 1_800_003_600, 1_800_000_000.0, role=None)
    claims = json.loads(_unpadded(base64.b64decode(read.env["AWS_SESSION_TOKEN"].reveal()).decode().split(".")[1]))
    assert claims["scope"] == "object-read-only" and claims["paths"]["prefixPaths"] == ["data/"]


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_store_without_such_keys_is_refused_and_long_lived_ones_go_only_by_the_ugly_word() -> None:
    runpod = StoreSettings("runpod", "https://s3api-eu-ro-1.runpod.io", "EU-RO-1", "abc123vol", Secret("k"), Secret("s"))
    backblaze = replace(runpod, kind="s3", endpoint="https://s3.us-west-004.backblazeb2.com")
    with pytest.raises(RefusedError, match="a pod gets none"):
        podkeys.way_of(runpod, None, own=False)
    assert podkeys.way_of(backblaze, None, own=False) == "b2"
    amazon = replace(runpod, kind="aws", endpoint=None)
    with pytest.raises(UserError, match="store_role"):
        podkeys.way_of(amazon, None, own=False)
    assert podkeys.way_of(amazon, "arn:aws:iam::123456789012:role/job", own=False) == "sts"
    keys = podkeys.issue(runpod, SCOPE, 2.0, 1.0, role=None, own=True)
    assert keys.way == "own" and keys.end is None and keys.env["AWS_SECRET_ACCESS_KEY"].reveal() == "s"


def test_a_server_that_knows_no_users_says_what_to_do(settings: StoreSettings) -> None:
    with pytest.raises(StoreError, match=r"users of the local store") as caught:
        podusers._admin(settings, "/what-an-older-server-does-not-know", b"")
    assert "invoke store.stop" in str(caught.value.hint)
