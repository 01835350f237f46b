"""The audit log against a real bucket: its anchors are written once, and tell what was cut off or begun anew."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from tests.storage.test_mirror import run_of
from tests.storage.test_result_verbs import Clone, fresh_clone
from trainyard.clouds.absence import Proof
from trainyard.config import Places
from trainyard.errors import UserError
from trainyard.ledger import auditlog
from trainyard.ledger.tables import audit
from trainyard.recipes.secretfiles import secret_in
from trainyard.runs.records.acts import anchor, record_act, record_limits
from trainyard.runs.records.mirror import beside
from trainyard.runs.verbs import account, adopt, anchors
from trainyard.runs.verbs.auditing import log, report_lines, row_lines, verify
from trainyard.secret import Secret
from trainyard.settings.table import StackSettings
from trainyard.storage import bucket
from trainyard.storage.auditanchors import ANCHORS
from trainyard.storage.client import StoreSettings, s3


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings) -> Clone:
    made = fresh_clone(tmp_path / "clone", store_places, settings)
    for n in range(3):
        record_act(made.context, "train", f"greg/r{n}/1", stack="local")
    return made


def cut(clone: Clone, above: int) -> None:
    with clone.context.ledger().database.writing() as connection:
        connection.execute(sa.delete(audit).where(audit.c.sequence > above))


def keys(settings: StoreSettings) -> list[str]:
    return [item.key for item in bucket.listing(settings, ANCHORS)]


def test_a_run_leaves_an_anchor_at_its_end_and_rows_cut_off_since_are_told(clone: Clone, settings: StoreSettings) -> None:
    with beside(clone.context, run_of(clone, settings)):
        pass
    assert [key[-17:] for key in keys(settings)] == ["000000000003.json"]
    assert verify(clone.context).exit_status == 0

    cut(clone, above=2)
    report = verify(clone.context)

    assert (report.exit_status, report.proof.breach, report.proof.at, report.proof.rows) == (1, "cut off", 3, 2)
    assert "BROKEN     at row 3: cut off" in "\n".join(report_lines(report))
    record_act(clone.context, "train", "greg/other/1")  # another row in its place
    assert verify(clone.context).proof.breach == "other chain"


def test_what_holds_is_anchored_once_and_an_anchor_is_never_overwritten(clone: Clone, settings: StoreSettings) -> None:
    assert [verify(clone.context).exit_status for _ in range(2)] == [0, 0] and len(keys(settings)) == 1
    before = s3(settings).get_object(Bucket=settings.bucket, Key=keys(settings)[0])["Body"].read()
    anchor(clone.context.ledger(), settings)
    assert s3(settings).get_object(Bucket=settings.bucket, Key=keys(settings)[0])["Body"].read() == before

    s3(settings).put_object(Bucket=settings.bucket, Key=keys(settings)[0], Body=b"{}")
    assert verify(clone.context).proof.breach == "other chain"


def test_a_ledger_that_was_begun_anew_is_told_until_a_person_accepts_that(clone: Clone, settings: StoreSettings) -> None:
    verify(clone.context)
    lost = auditlog.head(clone.context.ledger().database)
    cut(clone, above=0)
    assert verify(clone.context).exit_status == 1
    record_act(clone.context, "up", "local")

    report = verify(clone.context)
    assert lost is not None and report.exit_status == 1 and [one.chain for one in report.others] == [lost.chain]
    assert f"--accept {lost.chain}" in "\n".join(report_lines(report))

    with pytest.raises(
        UserError, match="--accept deadbeef: no bucket knows another chain of this ledger.*\nThose that are known: " + lost.chain
    ):
        verify(clone.context, accept="deadbeef")
    assert verify(clone.context, accept=lost.chain).exit_status == 0 and verify(clone.context).exit_status == 0
    assert [row.action for row in log(clone.context)] == ["up", "accept chain"]


def test_what_is_done_without_a_run_is_anchored_and_a_store_that_hangs_holds_nothing_up(
    clone: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchors, "stores", lambda context: iter([settings]))
    monkeypatch.setattr(account, "note_end", lambda *_: True)
    monkeypatch.setattr(account, "prove", lambda *_: Proof())
    monkeypatch.setattr(anchors, "_PATIENCE", 60.0)
    monkeypatch.setattr(adopt, "find_pod", lambda cloud, pod: SimpleNamespace(id=pod, price_per_hour=1.0, end=None))
    assert account.end_pod(clone.context, "local", "p1") == 0
    assert [key[-17:] for key in keys(settings)] == ["000000000004.json"] and log(clone.context)[-1].action == "end"

    hangs = threading.Event()
    monkeypatch.setattr(anchors, "_PATIENCE", 0.05)
    monkeypatch.setattr(anchors, "stores", lambda context: iter([hangs.wait(30)][:0]))
    began = time.monotonic()
    with anchors.anchoring(clone.context):
        pass
    assert time.monotonic() - began < 5
    hangs.set()


def test_limits_that_became_looser_are_written_once_with_what_they_were(clone: Clone) -> None:
    context = clone.context
    for settings in (
        StackSettings(limit_day=5.0, max_price=1.0),
        StackSettings(limit_day=5.0, max_price=1.0),
        StackSettings(max_price=0.5),
    ):
        record_limits(context, "lab", settings)
    record_limits(context, "lab", StackSettings(max_price=0.5, limit_action="warn"))

    told = [json.loads(row.data) for row in log(context, run="lab", action="limits")]
    assert [one["looser"] for one in told] == [[], ["limit_day"], ["limit_action"]] and told[1]["before"]["limit_day"] == 5.0


def test_no_secret_is_in_what_the_verbs_write(clone: Clone) -> None:
    key = "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3h"
    Secret(key)
    record_act(clone.context, "deliver", f"greg/{key}", to=f"hub:{key}@x")

    text = "\n".join(line for row in log(clone.context) for line in row_lines(row))
    assert key not in text and "***" in text and secret_in(text.encode()) is None and secret_in(key.encode()) is not None


def test_an_act_goes_on_without_its_row_and_one_that_loosens_does_not(clone: Clone) -> None:
    clone.context.places.ledger.write_bytes(b"no database" * 500)

    record_act(clone.context, "cancel", "greg/r1/1")
    assert "audit log cannot be written (cancel greg/r1/1 goes on)" in " ".join(clone.screen.getvalue().split())
    with pytest.raises(Exception, match="approve greg/r1: not done, as the audit log cannot be written"):
        record_act(clone.context, "approve", "greg/r1", must=True)
