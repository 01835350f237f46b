"""Keys of Backblaze B2 for a job: made, confined, ended and deleted, against an emulator of its documentation; no B2 was asked."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.storage import b2_emulator
from tests.storage.b2_emulator import MASTER, B2Emulator, Key
from tests.storage.conftest import places_at
from tests.storage.test_podkeys import SCOPE, job
from trainyard.clouds import http
from trainyard.errors import RefusedError, StoreError, TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.life import jobkeys
from trainyard.runs.planning import jobkeys as planned
from trainyard.runs.records.parts import JobKeys, RunBucket
from trainyard.runs.ui import Ui
from trainyard.secret import Secret
from trainyard.settings.table import StackSettings
from trainyard.storage import b2keys, podkeys
from trainyard.storage.client import StoreSettings
from trainyard.storage.podkeys import KeyScope
from trainyard.storage.stores import store_settings

NOW = 1_800_000_000.0


@pytest.fixture
def b2() -> Iterator[B2Emulator]:
    with b2_emulator.serve(NOW) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a pause between tries."""

    def impatient(cloud: str, base: str, headers: dict[str, str], env: dict[str, str]) -> http.Api:
        return http.Api(cloud, base, headers, env, http.Pace(sleep=lambda _: None))

    monkeypatch.setattr(b2keys, "Api", impatient)


@pytest.fixture
def store(b2: B2Emulator, tmp_path: Path) -> StoreSettings:
    env = {
        "AWS_ACCESS_KEY_ID": MASTER[0], "AWS_SECRET_ACCESS_KEY": MASTER[1], "AWS_ENDPOINT_URL": "https://s3.us-west-004.backblazeb2.com",
        "B2_API_URL": b2.url,
    }  # fmt: skip
    found = store_settings(env, None, "runs", places_at(tmp_path))
    assert found is not None and found.kind == "s3"
    return found


def client(b2: B2Emulator, keys: podkeys.PodKeys) -> Any:
    """Return what a job makes of its variables, with the emulator in the place of B2's S3 endpoint."""
    assert keys.env["AWS_ENDPOINT_URL"].reveal() == "https://s3.us-west-004.backblazeb2.com" and "AWS_SESSION_TOKEN" not in keys.env
    return job({**keys.env, "AWS_ENDPOINT_URL": Secret(b2.url)})


@pytest.mark.parametrize("writes", [False, True])
def test_a_key_opens_one_prefix_until_its_lease_ends_and_no_longer_than_its_teardown(
    b2: B2Emulator, store: StoreSettings, writes: bool
) -> None:
    b2.objects |= {"data/x": b"here", "jobs/you/run/1/x": b"here", "jobs/you/run/12/x": b"", "models/u/r/1/_SUCCESS": b""}
    keys = podkeys.issue(store, SCOPE if writes else replace(SCOPE, write=""), NOW + 600.5, NOW, role=None)
    s3, at = client(b2, keys), {"Bucket": "runs"}
    own, foreign = ("jobs/you/run/1/", "data/") if writes else ("data/", "jobs/you/run/1/")

    assert keys.scope == KeyScope("" if writes else "data/", "jobs/you/run/1/" if writes else "")
    assert keys.way == "b2" and keys.end == NOW + 600 and keys.user == keys.env["AWS_ACCESS_KEY_ID"].reveal()
    assert s3.get_object(**at, Key=f"{own}x")["Body"].read() == b"here" and s3.list_objects_v2(**at, Prefix=own)["KeyCount"] == 1
    if writes:
        s3.put_object(**at, Key=f"{own}y", Body=b"mine")
        assert b2.objects[f"{own}y"] == b"mine"
        s3.delete_object(**at, Key=f"{own}y")
    denied: list[Callable[[], Any]] = [
        lambda: s3.get_object(**at, Key=f"{foreign}x"),
        lambda: s3.get_object(**at, Key="jobs/you/run/12/x"),
        lambda: s3.get_object(Bucket="other", Key=f"{own}x"),
        lambda: s3.list_objects_v2(**at),
        lambda: s3.put_object(**at, Key="data/x", Body=b"other"),
        lambda: s3.put_object(**at, Key="models/u/r/1/_SUCCESS", Body=b"forged"),
    ]
    for call in denied:
        with pytest.raises(ClientError, match="AccessDenied"):
            call()
    b2.now = NOW + 601
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        s3.get_object(**at, Key=f"{own}x")


def test_the_teardown_deletes_the_key_and_may_come_twice(b2: B2Emulator, store: StoreSettings) -> None:
    keys, other = (podkeys.issue(store, SCOPE, NOW + 600, NOW, role=None) for _ in range(2))
    wrong = replace(keys, env={**keys.env, "AWS_SECRET_ACCESS_KEY": Secret("another")})
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client(b2, wrong).put_object(Bucket="runs", Key="jobs/you/run/1/x", Body=b"")
    client(b2, keys).put_object(Bucket="runs", Key="jobs/you/run/1/x", Body=b"")
    podkeys.withdraw(store, str(keys.user))
    podkeys.withdraw(store, str(keys.user))
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client(b2, keys).get_object(Bucket="runs", Key="jobs/you/run/1/x")
    assert set(b2.keys) == {MASTER[0], other.user}


def test_a_key_that_may_make_no_keys_is_refused_before_anything_is_rented(b2: B2Emulator, store: StoreSettings) -> None:
    podkeys.refuse_impossible(store, None, own=False)
    b2.keys["usual"] = Key("secret", ["listBuckets", "listFiles", "readFiles", "writeFiles"], "b-runs")
    usual = replace(store, access_key=Secret("usual"), secret_key=Secret("secret"))
    with pytest.raises(RefusedError, match="lacks writeKeys, deleteKeys"):
        podkeys.refuse_impossible(usual, None, own=False)
    podkeys.refuse_impossible(usual, None, own=True)
    with pytest.raises(StoreError, match="not authorized for b2_create_key") as caught:
        podkeys.issue(usual, SCOPE, NOW + 600, NOW, role=None)
    assert caught.value.code == "unauthorized" and not caught.value.passing and len(b2.keys) == 2


def test_a_wrong_or_ended_key_an_ended_token_and_a_foreign_bucket_are_sentences(b2: B2Emulator, store: StoreSettings) -> None:
    b2.keys["over"] = Key("secret", ["writeKeys"], end=NOW)
    for wrong in (replace(store, secret_key=Secret("not-it")), replace(store, access_key=Secret("over"), secret_key=Secret("secret"))):
        with pytest.raises(StoreError, match="b2_authorize_account: Backblaze B2 answered unauthorized") as caught:
            podkeys.issue(wrong, SCOPE, NOW + 600, NOW, role=None)
        assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint) and "not-it" not in str(caught.value)
    with pytest.raises(StoreError, match="no such bucket"):
        podkeys.issue(replace(store, bucket="nowhere"), SCOPE, NOW + 600, NOW, role=None)
    b2.token_life = 0
    with pytest.raises(StoreError, match="expired_auth_token"):
        podkeys.issue(store, SCOPE, NOW + 600, NOW, role=None)


def test_a_busy_api_is_asked_again_and_a_silent_one_given_up(b2: B2Emulator, store: StoreSettings) -> None:
    b2.faults = {"b2_authorize_account": [503], "b2_create_key": [429, 500]}
    assert podkeys.issue(store, SCOPE, NOW + 600, NOW, role=None).user in b2.keys
    b2.faults = {"b2_create_key": [503] * 20}
    with pytest.raises(StoreError, match="tried 6 times, the last answer was: HTTP 503") as caught:
        podkeys.issue(store, SCOPE, NOW + 600, NOW, role=None)
    assert caught.value.passing


@pytest.mark.parametrize(
    "changes", [{"capabilities": ["readFiles", "writeKeys"]}, {"bucketId": None}, {"namePrefix": None}, {"expirationTimestamp": None}]
)
def test_a_key_that_opens_more_than_was_asked_for_never_leaves_this_machine(
    b2: B2Emulator, store: StoreSettings, changes: dict[str, Any]
) -> None:
    b2.changes = changes
    with pytest.raises(StoreError, match="opens more than was asked for"):
        podkeys.issue(store, SCOPE, NOW + 600, NOW, role=None)
    assert list(b2.keys) == [MASTER[0]], "it is deleted again"


def test_the_key_goes_to_b2_alone_and_in_clear_text_nowhere(b2: B2Emulator, store: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="clear text"):
        podkeys.withdraw(replace(store, keys_api="http://api.backblazeb2.com"), "x")
    b2.api_url = "https://api.example.com"
    with pytest.raises(StoreError, match=r"names api\.example\.com"):
        podkeys.withdraw(store, "x")
    asked: list[str] = []

    def note(cloud: str, base: str, *_: object) -> http.Api:
        asked.append(base)
        raise TrainyardError("nothing is asked")

    monkeypatch.setattr(b2keys, "Api", note)
    with pytest.raises(TrainyardError, match="nothing is asked"):
        podkeys.withdraw(replace(store, keys_api=None), "x")
    assert asked == ["https://api.backblazeb2.com"], "an emulator is asked only where B2_API_URL names it"


def test_the_emulator_refuses_what_b2_refuses(b2: B2Emulator) -> None:
    header = b2.authorize("Basic " + base64.b64encode(":".join(MASTER).encode()).decode())["authorizationToken"]
    asked = {
        "accountId": b2_emulator.ACCOUNT,
        "bucketId": "b-runs",
        "capabilities": ["readFiles"],
        "keyName": "a",
        "validDurationInSeconds": 9,
    }
    wrong: list[dict[str, Any]] = [
        {"capabilities": ["readFiles", "writeKeys"]}, {"validDurationInSeconds": 0}, {"validDurationInSeconds": 1000 * 86400},
        {"keyName": "a b"}, {"bucketId": "b-none"}, {"accountId": "another"},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(b2_emulator.Refusal):
            b2.carry_out("b2_create_key", header, {**asked, **change})
    assert b2.carry_out("b2_create_key", header, asked)["expirationTimestamp"] == (NOW + 9) * 1000


def test_a_run_s_job_gets_its_key_by_environment_alone_and_the_record_names_what_to_delete(b2: B2Emulator, tmp_path: Path) -> None:
    env = {
        "AWS_ACCESS_KEY_ID": MASTER[0], "AWS_SECRET_ACCESS_KEY": MASTER[1], "AWS_ENDPOINT_URL": "https://s3.us-west-004.backblazeb2.com",
        "B2_API_URL": b2.url,
    }  # fmt: skip
    b2.now = time.time()
    screen = io.StringIO()
    context = CommandContext(places_at(tmp_path), env, Ui(stream=screen))
    bucket = RunBucket("runs", "s3", "https://s3.us-west-004.backblazeb2.com", "us-east-1")
    asked = JobKeys(access="attempt", prefix="data/")
    record: Any = SimpleNamespace(
        job_keys=asked, bucket=bucket, pod=SimpleNamespace(end=None), hours=1.0, user="you", label="run", attempt=1
    )
    folder: Any = SimpleNamespace(save=lambda _: None)

    told = jobkeys.issue(context, record, folder)

    assert told["TRAINYARD_STORE_WRITE"].reveal() == "s3://runs/jobs/you/run/1/" and "TRAINYARD_STORE_READ" not in told
    assert "cannot read data/" in " ".join(screen.getvalue().split())
    assert record.job_keys.user in b2.keys and told["AWS_SECRET_ACCESS_KEY"].reveal() not in repr(record)
    jobkeys.issue(context, record, folder)
    assert len(b2.keys) == 2, "the key of a start that was interrupted goes"
    jobkeys.withdraw(context, record)
    assert record.job_keys.user is None and list(b2.keys) == [MASTER[0]]


@pytest.mark.parametrize(
    ("access", "env", "told"),
    [
        ("read", {}, ": read below data/ ("),
        ("attempt", {}, ": read and write below a prefix of its own, and nowhere else: a key of this store has one prefix ("),
        ("attempt", {"AWS_ENDPOINT_URL": "https://ceph.example"}, ": read below data/ and read and write below a prefix of its own ("),
    ],
)
def test_beside_the_estimate_stands_what_the_key_of_this_store_will_open(
    access: str, env: dict[str, str], told: str, tmp_path: Path
) -> None:
    base = {
        "AWS_ACCESS_KEY_ID": MASTER[0], "AWS_SECRET_ACCESS_KEY": MASTER[1], "AWS_ENDPOINT_URL": "https://s3.us-west-004.backblazeb2.com",
    }  # fmt: skip
    context = CommandContext(places_at(tmp_path), base | env, Ui())
    assert told in planned.words(context, JobKeys(access=access, prefix="data/"), StackSettings())
