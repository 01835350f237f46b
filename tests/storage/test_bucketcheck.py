"""What a run is told of its bucket before anything is rented, and what invoke store.check shows."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.storage.conftest import places_at
from tests.storage.lying_proxy import Fault, LyingProxy
from trainyard.clock import format_time
from trainyard.errors import StoreError
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.bucketcheck import require_bucket
from trainyard.runs.records.parts import RunBucket
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import storecheck
from trainyard.storage import canary
from trainyard.storage.client import StoreSettings


class Person:
    """A person at a screen of 80 columns, with keys in the shell."""

    def __init__(self, root: Path, store: StoreSettings, **more: str) -> None:
        self.screen = io.StringIO()
        env = {
            "AWS_ACCESS_KEY_ID": store.access_key.reveal(), "AWS_SECRET_ACCESS_KEY": store.secret_key.reveal(),
            "AWS_ENDPOINT_URL": str(store.endpoint), **more,
        }  # fmt: skip
        self.bucket = RunBucket(store.bucket, "s3")
        self.context = CommandContext(places_at(root), env, Ui(stream=self.screen))


def test_a_run_hears_once_an_hour_what_its_bucket_lacks(through: StoreSettings, proxy: LyingProxy, tmp_path: Path) -> None:
    person = Person(tmp_path, through)
    proxy.faults.append(Fault("List", "fail", times=99, status=403))
    require_bucket(person.context, "mine", person.bucket, 2.0)
    text = person.screen.getvalue()
    assert "takes, proves and gives back what it gets" in text and "list does not work: attempts are found" in text
    seen = len(proxy.seen)
    require_bucket(person.context, "mine", person.bucket, 2.0)
    assert person.screen.getvalue() == text and len(proxy.seen) == seen
    require_bucket(person.context, "mine", None, 2.0)


def test_a_bucket_that_could_take_no_result_is_refused_before_renting(through: StoreSettings, proxy: LyingProxy, tmp_path: Path) -> None:
    person = Person(tmp_path, through)
    proxy.faults.append(Fault("CreateUpload", "fail", times=99, status=501))
    with pytest.raises(StoreError, match=r"multipart: .*NotImplemented"):
        require_bucket(person.context, "mine", person.bucket, 2.0)


def test_session_keys_that_end_before_the_lease_are_told_and_those_that_end_now_refused(settings: StoreSettings, tmp_path: Path) -> None:
    person = Person(tmp_path, settings)
    with pytest.raises(StoreError, match=r"session keys end at .*; nothing was rented") as caught:
        _with_end(person, 60, 2.0)
    assert caught.value.code == "ExpiredToken"
    with pytest.raises(StoreError, match=r"InvalidToken|ExpiredToken|AccessKey|NotImplemented|Signature|token"):
        _with_end(person, 3600, 2.0)  # this server knows no session keys
    assert "before the lease does" in person.screen.getvalue()


def _with_end(person: Person, seconds: float, hours: float) -> None:
    more = {"AWS_SESSION_TOKEN": "t", "AWS_CREDENTIAL_EXPIRATION": format_time(time.time() + seconds)}
    require_bucket(replace(person.context, env={**person.context.env, **more}), "mine", person.bucket, hours)


def test_the_table_fits_80_columns_and_says_what_each_verdict_means(through: StoreSettings, proxy: LyingProxy, tmp_path: Path) -> None:
    person = Person(tmp_path, through)
    person.context.ui.console.width = 80
    proxy.faults += [Fault("List", "fail", times=99, status=403), Fault("Abort", "fail", times=99, status=403)]
    report = canary.check(replace(through, attempts=1))
    storecheck.show(person.context, report)
    lines = person.screen.getvalue().splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines[1:])
    text = " ".join(person.screen.getvalue().split())
    assert "needs the right s3:AbortMultipartUpload; nothing is rented" in text
    assert "needs the right s3:ListBucket; attempts are found by trying their numbers" in text
    assert storecheck.as_data(report)["ok"] is False and "CRC32 of the whole object" in text
