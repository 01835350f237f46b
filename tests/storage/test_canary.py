"""The canary: each action with its verdict, kept for an hour by the key, and what a missing right or a lying store comes to."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.auth
import pytest

from tests.storage.lying_proxy import Fault, LyingProxy
from tests.storage.users import ServerWithUsers, allow, on_bucket, server_with_users
from trainyard.config import Places
from trainyard.errors import StoreError, UserError
from trainyard.secret import Secret
from trainyard.storage import absent, bucket, canary, find, lifecycle, markers, objects, seal
from trainyard.storage.answers import clock_off
from trainyard.storage.client import StoreSettings, s3, sts
from trainyard.storage.manifest import ResultKey

OBJECT_RIGHTS = ("PutObject", "GetObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts")


def verdicts(report: canary.StoreReport) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def test_a_store_that_can_everything_says_so_and_nothing_is_left_behind_not_even_a_version(settings: StoreSettings) -> None:
    report = canary.require(settings)
    assert set(verdicts(report).values()) == {"ok"} and len(report.checks) == 15
    assert (report.conditional, report.checksums, report.presign) == (True, "full", True)
    left = s3(settings).list_object_versions(Bucket=settings.bucket)
    assert not left.get("Versions") and not left.get("DeleteMarkers")
    assert not s3(settings).list_multipart_uploads(Bucket=settings.bucket).get("Uploads")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("Get", "garble", times=9), "get: what came back is not what was sent"),
        (Fault("Put", "swallow", times=9, key="marker"), "head: the store acknowledged it and does not hold it"),
        (Fault("Put", "corrupt", times=9, key="marker"), "put: .*ContentSHA256Mismatch"),
        (Fault("Put", "swallow", times=9, after=1, key="marker"), "should keep write-once markers"),
        (Fault("Complete", "swallow", times=9), "proof: the store acknowledged it and does not hold it"),
        (Fault("UploadPart", "swallow", times=9), "list parts: the store does not list the part"),
        (Fault("UploadPart", "fail", times=9, status=403), "lacks s3:PutObject"),
        (Fault("CreateUpload", "fail", times=9, status=501), "multipart: .*NotImplemented"),
        (Fault("Abort", "fail", times=9, status=403), "lacks s3:AbortMultipartUpload"),
        (Fault("Delete", "fail", times=9), "500|InternalError"),
        (Fault("any", "drop", times=99), "does not answer"),
    ],
    ids=lambda value: f"{value.operation} {value.act}" if isinstance(value, Fault) else None,
)
def test_a_store_that_fails_the_canary_is_refused(fault: Fault, words: str, through: StoreSettings, proxy: LyingProxy) -> None:
    proxy.faults.append(fault)
    with pytest.raises(StoreError, match=words):
        canary.require(replace(through, attempts=1))


def test_an_unknown_store_is_found_out_by_the_canary(through: StoreSettings, proxy: LyingProxy) -> None:
    unknown = replace(through, kind="s3", checksums="probe", conditional=False, attempts=1)
    best = canary.probed(unknown)
    assert (best.checksums, best.conditional, best.presign) == ("full", True, True)
    proxy.faults.append(Fault("CreateUpload", "fail", times=2, key="-full", status=501))
    assert canary.probed(unknown).checksums == "composite"
    for mode in ("-full", "-composite"):
        proxy.faults.append(Fault("CreateUpload", "fail", times=2, key=mode, status=501))
    proxy.faults.append(Fault("Put", "swallow", times=9, after=1, key="none-marker"))
    weakest = canary.probed(unknown)
    assert (weakest.checksums, weakest.conditional) == ("none", False)


def test_an_unknown_store_that_signs_no_urls_is_used_without_and_that_is_said(through: StoreSettings, proxy: LyingProxy) -> None:
    unknown = replace(through, kind="s3", checksums="probe", conditional=False, attempts=1)
    proxy.refuses_signed_urls = True
    report = canary.require(unknown)
    assert not report.presign and [check.name for check in report.degraded] == ["signed URL"]
    assert "results go over SSH" in canary.loss(report.degraded[0])
    with pytest.raises(StoreError, match="signed URL"):
        canary.require(through)


def test_a_good_report_is_kept_for_an_hour_by_the_key_and_a_failure_never(
    through: StoreSettings, proxy: LyingProxy, tmp_path: Path
) -> None:
    kept, noon = replace(through, memory=tmp_path / "stores", attempts=1), 1_000_000.0
    proxy.faults.append(Fault("CreateUpload", "fail", times=9, status=501))
    for _ in range(2):
        assert canary.check(kept, now=lambda: noon).failures
    assert not (tmp_path / "stores").exists()
    proxy.faults.clear()
    first = canary.check(kept, now=lambda: noon)
    seen = len(proxy.seen)
    assert canary.check(kept, now=lambda: noon + 3599) == first and len(proxy.seen) == seen
    for other in (replace(kept, bucket=through.bucket + "x"), replace(kept, secret_key=Secret("other")), replace(kept, kind="r2")):
        assert canary._kept(other, 3600, noon) is None
    assert canary.check(kept, now=lambda: noon + 3601).at == noon + 3601 and len(proxy.seen) > seen
    seen = len(proxy.seen)
    assert canary.check(kept, fresh=True, now=lambda: noon + 3602) and len(proxy.seen) > seen
    [file] = (tmp_path / "stores").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert through.secret_key.reveal() not in file.read_text() and through.access_key.reveal() not in file.read_text()
    file.write_text("{")
    assert not canary.check(kept, now=lambda: noon + 3603).failures


def test_a_wrong_clock_is_told_by_the_date_of_the_answer(settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    real = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *a, **k: real(*a, **k) + datetime.timedelta(hours=3))
    clock = time.time
    monkeypatch.setattr("trainyard.storage.answers.time.time", lambda: clock() + 3 * 3600)
    with pytest.raises(StoreError, match=r"3 hours ahead of the store's|RequestTimeTooSkewed") as caught:
        canary.require(settings)
    assert caught.value.code == "RequestTimeTooSkewed" and "clock" in str(caught.value.hint)
    assert (
        clock_off({"date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 784111777.0 + 60) == 60
        and clock_off({"date": "x"}, 5) == clock_off({}, 5) == 0
    )


@pytest.fixture(scope="module")
def users(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerWithUsers]:
    with server_with_users(binary, tmp_path_factory.mktemp("users")) as running:
        yield running


def test_a_key_with_rights_on_objects_alone_claims_commits_and_needs_no_lifecycle(users: ServerWithUsers, tmp_path: Path) -> None:
    user = users.user(allow(users.root, *OBJECT_RIGHTS))
    assert bucket.adopt_or_create(user) is True, "HEAD of the bucket is refused"
    report = canary.require(user)
    assert {check.name for check in report.degraded} == {"list", "list uploads"}
    assert "by trying their numbers" in canary.loss(report.degraded[0])
    places = Places(tmp_path, tmp_path / "home", tmp_path / "outside", tmp_path / "settings")
    claim = markers.Claim("a" * 32, "you", "here", "now")
    assert markers.next_attempt(user, places, "you", "run", claim) == 1
    assert markers.next_attempt(user, places, "you", "run", replace(claim, token="b" * 32)) == 2
    seal.put_proven(user, "models/you/run/1/_SUCCESS", b"{}")
    assert seal.read(user, "models/you/run/1/_KEPT") is None
    assert [find.find(user, name, user="you").key.attempt for name in ("run", "you/run", "you/run/1")] == [1, 1, 1]
    with pytest.raises(UserError, match="there is no result") as caught:
        find.find(user, "you/other")
    assert "may not list" in str(caught.value.hint)
    assert lifecycle.put(user, ()).rules == ()


@pytest.mark.parametrize("lacking", OBJECT_RIGHTS)
def test_a_missing_right_is_named_and_no_other(lacking: str, users: ServerWithUsers) -> None:
    rights = [right for right in OBJECT_RIGHTS if right != lacking]
    user = users.user(allow(users.root, *rights), on_bucket(users.root, "ListBucket", "ListBucketMultipartUploads"))
    report = canary.check(user)
    if lacking == "DeleteObject":
        assert [check.name for check in report.degraded] == ["delete"] and not report.failures
        return
    with pytest.raises(StoreError, match=rf"this key lacks s3:{lacking} \(tried: ") as caught:
        canary.require(user)
    assert "docs/stores.md" in str(caught.value.hint)


def test_what_a_canary_left_that_was_cut_off_goes_with_the_next_one_which_says_how_much(settings: StoreSettings) -> None:
    s3(settings).put_object(Bucket=settings.bucket, Key="tmp/canary-0123-full-result", Body=b"left")
    s3(settings).create_multipart_upload(Bucket=settings.bucket, Key="tmp/canary-0123-full-aborted")
    s3(settings).put_object(Bucket=settings.bucket, Key="tmp/mounted-x", Body=b"another's")

    assert canary.check(settings, fresh=True).removed == 0, "it may be at work"
    assert canary.check(settings, fresh=True, now=lambda: time.time() + 3 * 3600).removed >= 2
    listed = s3(settings).list_objects_v2(Bucket=settings.bucket).get("Contents", [])
    assert [item["Key"] for item in listed] == ["tmp/mounted-x"] and objects.open_uploads(settings) == []


def test_somebody_elses_bucket_a_wrong_secret_and_an_unknown_key_are_told_apart(users: ServerWithUsers) -> None:
    stranger = users.user()
    said: dict[str, str] = {}
    for name, settings in {
        "theirs": stranger,
        "secret": replace(stranger, secret_key=Secret("wrong")),
        "key": replace(stranger, access_key=Secret("nobody")),
        "absent": replace(users.root, bucket="not-there-at-all"),
    }.items():
        with pytest.raises(StoreError) as caught:
            canary.require(settings)
        said[name] = f"{caught.value.message} {caught.value.hint}"
    assert "none of this account's buckets, so it is somebody else's" in said["theirs"]
    assert "secret key does not belong" in said["secret"] and "access key is not known" in said["key"]
    assert "is not there" in said["absent"]
    with pytest.raises(StoreError, match="somebody else's"):
        bucket.adopt_or_create(stranger)


def test_where_a_403_means_absent_it_is_taken_so_only_on_proof(through: StoreSettings, proxy: LyingProxy) -> None:
    proxy.absent_is_403 = True
    absent._hides_absent.cache_clear()
    assert seal.read(through, "models/a/b/1/_SUCCESS") is None
    assert not markers.fence_is_closed(through, "0" * 10)
    assert verdicts(canary.check(through))["absent"] == "refused"
    seal.put_proven(through, "closed/x", b"here")
    absent._hides_absent.cache_clear()
    proxy.faults.append(Fault("Get", "fail", times=9, status=403))
    with pytest.raises(StoreError, match="this key may not"):
        seal.read(through, "closed/x")
    absent._hides_absent.cache_clear()


def policies() -> dict[str, dict[str, Any]]:
    """Return the policies that docs/stores.md publishes, by the heading above them."""
    text = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```json\n")[1:]]
    return {name: json.loads(block) for name, block in zip(("whole", "objects"), blocks, strict=False)}


@pytest.mark.parametrize("name", ["whole", "objects"])
def test_the_smallest_policies_that_the_page_publishes_are_enough_on_a_real_server(name: str, users: ServerWithUsers) -> None:
    document = json.loads(json.dumps(policies()[name]).replace("my-results-1", users.root.bucket))
    # Rights that this server does not know are not refused by it, and not needed here either.
    known = ("Lifecycle", "DeleteObjectVersion")
    statements = [{**one, "Action": [a for a in one["Action"] if not any(k in a for k in known)]} for one in document["Statement"]]
    user = users.user(*[{key: value for key, value in one.items() if key != "Sid"} for one in statements if one["Action"]])
    report = canary.require(user)
    assert {check.name for check in report.degraded} == (set() if name == "whole" else {"list", "list uploads"})
    for right in ("ListBucket", "ListBucketMultipartUploads") if name == "whole" else ():
        less = [{**one, "Action": [action for action in one["Action"] if action != f"s3:{right}"]} for one in statements]
        poor = users.user(*[{key: value for key, value in one.items() if key != "Sid"} for one in less])
        assert canary.check(poor).degraded, f"{right} is not needed"


@pytest.mark.parametrize("name", ["whole", "objects"])
def test_the_same_policies_are_enough_on_minio(name: str, minio_store: StoreSettings, tmp_path: Path) -> None:
    document = json.dumps(policies()[name]).replace("my-results-1", minio_store.bucket)
    keys = sts(minio_store).assume_role(RoleArn="arn:aws:iam::000000000000:role/any", RoleSessionName="test", Policy=document)[
        "Credentials"
    ]
    store = replace(
        minio_store, access_key=Secret(keys["AccessKeyId"]), secret_key=Secret(keys["SecretAccessKey"]),
        session_token=Secret(keys["SessionToken"]), checksums="probe", conditional=False,
    )  # fmt: skip
    report = canary.require(store)
    assert {check.name for check in report.degraded} == (set() if name == "whole" else {"list", "list uploads"})
    assert (report.checksums, report.conditional, report.presign) == ("full", True, True)
    places = Places(tmp_path, tmp_path / "home", tmp_path / "outside", tmp_path / "settings")
    claim = markers.Claim("c" * 32, "you", "here", "now")
    number = markers.next_attempt(store, places, "you", f"run-{name}", claim)
    where = ResultKey("you", f"run-{name}", number)
    markers.refuse_foreign(store, where, claim.token)
    assert seal.read_result(store, where) is None and not markers.fence_is_closed(store, "0" * 10)
    assert bucket.adopt_or_create(store) is True
    assert lifecycle.put(store, ()).kept_in == ("store" if name == "whole" else "unseen")
