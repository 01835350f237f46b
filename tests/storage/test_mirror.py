"""Events of runs in the bucket: a second machine and a new ledger see the same runs; no run waits for it."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.storage.test_result_verbs import Clone, fresh_clone
from trainyard.config import Places
from trainyard.errors import StoreError
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.limits import SpendLimit
from trainyard.runs.records import mirror
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.mirror import beside, pull, push
from trainyard.runs.records.notes import BY_HAND, RENTED, ended_by_hand, note, note_over, note_removed, note_row
from trainyard.runs.records.parts import PaidPod, RunBucket
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import cost
from trainyard.runs.verbs import sharing
from trainyard.runs.verbs.listing import list_runs
from trainyard.runs.verbs.sharing import rebuild
from trainyard.stacks import facade
from trainyard.storage import bucket, eventlog
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.eventlog import EVENTS


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings) -> Clone:
    return fresh_clone(tmp_path / "clone", store_places, settings)


@pytest.fixture
def other(tmp_path: Path, store_places: Places, settings: StoreSettings, clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """Another machine's checkout with the same bucket."""
    return fresh_clone(tmp_path / "other", store_places, settings)


def run_of(clone: Clone, settings: StoreSettings, **changes: Any) -> RunRecord:
    usual: dict[str, Any] = {"phase": "ended", "ended": 105.0, "bucket": RunBucket(settings.bucket, "local")}
    record = RunRecord(
        user="greg", label="first", attempt=1, environment="local", recipe="lora", values={}, bundle_sha256="", hours=1, created=100.0,
        token="t", pods=[PaidPod("p", 3600.0, accepted=100.0, ended=105.0)], **{**usual, **changes},
    )  # fmt: skip
    RunFolder(record.id.folder(clone.context.places.runs)).save(record)
    for kind in ("prepared", "up", "ended"):
        note(clone.context, record, kind, why=f"because of {kind}")
    clone.context.ledger().set_cost(record.id, record.created, cost(record))
    note_row(clone.context, record)
    return record


def keys(settings: StoreSettings) -> list[str]:
    return [item.key for item in bucket.listing(settings, EVENTS)]


def test_each_event_is_an_object_of_its_own_and_is_written_once(clone: Clone, settings: StoreSettings) -> None:
    record = run_of(clone, settings)

    assert push(clone.context, record) == 3 and push(clone.context, record) == 0
    written = keys(settings)
    assert len(written) == 3 and all(key.startswith("events/greg/first/1/") for key in written)
    body = s3(settings).get_object(Bucket=settings.bucket, Key=written[-1])["Body"].read()
    document = json.loads(body)
    assert document["kind"] == "ended" and document["run"]["cost"] == 5.0 and document["machine"] == socket.gethostname()
    assert written[-1].endswith(f"-{document['id'][:8]}.json") and abs(document["time"] - time.time()) < 60


def test_another_machine_sees_the_run_its_events_and_its_cost(clone: Clone, other: Clone, settings: StoreSettings) -> None:
    push(clone.context, run_of(clone, settings))
    ledger = other.context.ledger()

    assert pull(ledger, settings) == 3 and pull(ledger, settings) == 0
    (run,) = list_runs(other.context).runs
    assert (run.run, run.state, run.cost, run.here, run.machine) == ("greg/first", "failed", 5.0, False, socket.gethostname())
    assert ledger.events() == clone.context.ledger().events() and sum(ledger.costs_since(0.0).values()) == 5.0
    assert ledger.pending(socket.gethostname(), 0.0) == [], "what came from a bucket is not pushed to it again"


def test_a_lost_ledger_is_made_anew_from_bucket_and_records(clone: Clone, settings: StoreSettings) -> None:
    push(clone.context, run_of(clone, settings))
    was = clone.context.ledger().events()
    for path in clone.context.places.home.glob("ledger.db*"):
        path.unlink()

    rebuilt = rebuild(clone.context)
    assert (rebuilt.events, rebuilt.records, rebuilt.buckets) == (3, 1, (settings.url,))
    assert clone.context.ledger().events() == was and sum(clone.context.ledger().costs_since(0.0).values()) == 5.0
    assert rebuild(clone.context).events == 0


def test_a_removed_run_is_removed_on_every_machine_and_does_not_come_back(clone: Clone, other: Clone, settings: StoreSettings) -> None:
    record, ledger = run_of(clone, settings), other.context.ledger()
    push(clone.context, record)
    pull(ledger, settings)
    note_removed(clone.context, record)
    push(clone.context, record)

    pull(ledger, settings)
    assert list_runs(other.context).runs == [] and sum(ledger.costs_since(0.0).values()) == 5.0
    fresh = fresh_clone(other.context.places.root.parent / "third", other.context.places, settings).context.ledger()
    pull(fresh, settings)
    assert fresh.runs() == []


def test_what_is_older_does_not_win_over_what_a_machine_knows_itself(clone: Clone, other: Clone, settings: StoreSettings) -> None:
    record = run_of(clone, settings, phase="started", ended=None)
    push(clone.context, record)
    newer = replace(record, phase="ended", ended=110.0, pods=[PaidPod("p", 3600.0, accepted=100.0, ended=110.0)])
    RunFolder(record.id.folder(other.context.places.runs)).save(newer)
    note_over(other.context, newer)

    pull(other.context.ledger(), settings)
    assert [run.state for run in list_runs(other.context).runs] == ["failed"] and sum(
        other.context.ledger().costs_since(0.0).values()
    ) == 10.0


def test_what_others_have_put_there_is_taken_in_or_left_out_and_reaches_no_terminal(
    clone: Clone, other: Clone, settings: StoreSettings
) -> None:
    push(clone.context, run_of(clone, settings, error="\x1b[2Jboo"))
    (last,) = [key for key in keys(settings) if json.loads(_body(settings, key))["kind"] == "ended"]
    odd = {
        "events/greg/first/1/0000000000001-00000000.json": b"{",
        "events/greg/first/1/0000000000002-00000000.json": b"[1]",
        "events/greg/first/1/0000000000003-00000000.json": _body(settings, last),  # another event's
        "events/../x": b"{}",
        "events/greg/second/1/" + last.rpartition("/")[2]: _body(settings, last),  # another run's row
    }
    for key, body in odd.items():
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=body)

    ledger = other.context.ledger()
    pull(ledger, settings)
    assert [row.id for row in ledger.runs()] == [RunId("greg", "first")] and "\x1b" not in str(ledger.runs()[0].error)


def test_figures_that_cannot_be_are_left_out_and_the_others_are_taken_in(clone: Clone, settings: StoreSettings, tmp_path: Path) -> None:
    odd: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"created": 1e300}, {}), ({"ended": 1e18}, {}), ({"changed": 4e9}, {}), ({"steps_done": 10**30}, {}), ({"cost": -1e9}, {}),
        ({"cost": float("nan")}, {}), ({"state": "x" * 20_000}, {}), ({}, {"estimate": "abc"}), ({}, {"estimate": [1]}),
        ({}, {"estimate": -1e9}), ({}, {"estimate": float("inf")}),
    ]  # fmt: skip
    push(clone.context, run_of(clone, settings))
    (last,) = [key for key in keys(settings) if json.loads(_body(settings, key))["kind"] == "ended"]
    document = json.loads(_body(settings, last))
    for number, (row, data) in enumerate(odd):
        hostile = {**document, "kind": "prepared", "data": data, "run": {**document["run"], "label": f"odd{number}", **row}}
        key = last.replace("/first/", f"/odd{number}/")
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=json.dumps(hostile))

    ledger = Ledger(tmp_path / "ledger.db")
    assert pull(ledger, settings) == 3 and [run.label for run in ledger.runs()] == ["first"]
    assert ledger.left_of([SpendLimit("limit_day", 9.0, 86_400.0)])[0].committed == 0.0 and sum(ledger.costs_since(0.0).values()) == 5.0


def test_an_object_too_large_for_an_event_is_not_fetched(settings: StoreSettings, clone: Clone) -> None:
    key = "events/greg/first/1/0000000000001-00000000.json"
    s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=b" " * (1 << 20))

    assert not eventlog.page(settings).keys


def test_what_comes_with_an_event_is_taken_in_even_when_the_first_pull_is_killed(
    clone: Clone, other: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(clone.context, run_of(clone, settings))
    for step in ("put_runs", "take"):
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, step, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                pull(other.context.ledger(), settings)

    assert pull(other.context.ledger(), settings) == 3 and [run.label for run in other.context.ledger().runs()] == ["first"]


def test_a_ledger_that_another_process_holds_delays_a_rented_pod_by_a_second(clone: Clone, settings: StoreSettings) -> None:
    record = run_of(clone, settings, phase="started", ended=None)
    with contextlib.closing(sqlite3.connect(clone.context.places.ledger, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        note(clone.context, record, "trained")

    assert time.monotonic() - began < 10.0


def _body(settings: StoreSettings, key: str) -> bytes:
    body: bytes = s3(settings).get_object(Bucket=settings.bucket, Key=key)["Body"].read()
    return body


def test_a_pull_that_is_cut_off_goes_on_where_it_was(
    clone: Clone, other: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(clone.context, run_of(clone, settings))
    asked = s3(settings).list_objects_v2
    monkeypatch.setattr(s3(settings), "list_objects_v2", lambda **words: asked(**words, MaxKeys=1))
    ledger, places = other.context.ledger(), list[str]()

    def on_page(after: str, go_on: bool) -> bool:
        places.append(after)
        return go_on

    assert pull(ledger, settings, "", lambda after: on_page(after, False)) == 1
    assert pull(ledger, settings, places[0], lambda after: on_page(after, True)) == 2
    assert len(ledger.events()) == 3 and places[-1] == ""


def test_a_store_that_hangs_or_refuses_delays_no_run_and_the_next_push_brings_it(
    clone: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, hangs = run_of(clone, settings), threading.Event()
    monkeypatch.setattr(mirror, "_PATIENCE", 0.05)
    with monkeypatch.context() as patched:
        patched.setattr(eventlog, "put", lambda *_: hangs.wait(20))
        began = time.monotonic()
        with beside(clone.context, record):
            pass
        assert time.monotonic() - began < 5
    hangs.set()

    def refuse(*_: object) -> None:
        raise StoreError("403")

    ledger = clone.context.ledger()
    for thread in [one for one in threading.enumerate() if one.name == "mirror"]:
        thread.join()
    ids = [event.id for event in ledger.events()]
    with ledger.database.writing() as connection:  # as if it had not come so far
        connection.exec_driver_sql("UPDATE events SET mirrored = 0")
    monkeypatch.setattr(mirror, "_PATIENCE", 20.0)
    with monkeypatch.context() as patched:
        patched.setattr(eventlog, "put", refuse)
        with beside(clone.context, record):
            pass
    assert [event.id for event in ledger.pending(socket.gethostname(), 0.0)] == ids and keys(settings) == []

    with beside(clone.context, record):
        note(clone.context, record, "more")
    assert len(keys(settings)) == 4 and ledger.pending(socket.gethostname(), 0.0) == []


def test_a_bucket_that_was_not_read_is_said_with_how_old_the_list_is(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_PATIENCE", 0.05)
    monkeypatch.setattr(sharing, "_bucket_names", lambda context: ["s3://far"])
    never = threading.Event()
    monkeypatch.setattr(sharing, "stores", lambda context: iter([never.wait(5)][:0]))

    assert list_runs(clone.context).runs == []
    never.set()
    assert "s3://far was not waited for longer than 0.05 s: runs of other machines are those known before" in clone.said()


def test_a_list_tells_a_bucket_that_refuses_from_one_that_was_not_waited_for(
    clone: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(settings, bucket="is-not-there")
    monkeypatch.setattr(sharing, "_bucket_names", lambda context: [wrong.url])
    monkeypatch.setattr(sharing, "stores", lambda context: iter([wrong]))
    monkeypatch.setattr(sharing, "_PATIENCE", 60.0)

    assert list_runs(clone.context).runs == []
    said = clone.said()
    assert "s3://is-not-there could not be read (" in said and "NoSuchBucket" in said and "not waited for" not in said


def test_a_shared_bucket_is_asked_once_in_a_while(
    clone: Clone, other: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(clone.context, run_of(clone, settings))
    asked: list[int] = []

    def stores(context: object) -> Iterator[StoreSettings]:
        asked.append(1)
        yield settings

    monkeypatch.setattr(sharing, "_bucket_names", lambda context: [settings.url])
    monkeypatch.setattr(sharing, "stores", stores)

    for _ in range(2):
        assert [run.run for run in list_runs(other.context).runs] == ["greg/first"]
    assert asked == [1] and "runs of other machines" not in other.said()


def test_which_buckets_are_shared_is_known_without_any_client_or_secret(
    tmp_path: Path, store_places: Places, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = fresh_clone(tmp_path / "clone", store_places, settings)
    far = clone.context.places.root / "Pulumi.far.yaml"
    far.write_text("config:\n  trainyard:cloud: runpod\n  trainyard:bucket: far-away\n")
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}

    assert sharing._bucket_names(replace(clone.context, env=keys)) == ["s3://far-away"], "the local store knows only this machine"
    assert sharing._bucket_names(replace(clone.context, env={})) == []

    outputs = {"bucket": "from-the-state", "store": "aws", "ssh_private_key": {"ciphertext": "never read"}}
    monkeypatch.setattr(facade, "resources", lambda stack: [{"type": "pulumi:pulumi:Stack", "outputs": outputs}])
    assert sharing._bucket_names(replace(clone.context, env=keys)) == ["s3://from-the-state"]


def test_a_pod_that_is_ended_on_another_machine_is_known_there_to_have_been_ended_by_a_person(
    clone: Clone, other: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_bucket_names", lambda context: [settings.url])
    monkeypatch.setattr(sharing, "stores", lambda context: iter([settings]))
    record = run_of(clone, settings, phase="started", ended=None)
    note(clone.context, record, RENTED, pod="p1")
    push(clone.context, record)

    assert not sharing.tell_end(other.context, "p2"), "no run is known to have it"
    assert not ended_by_hand(clone.context, record, "p1")
    assert sharing.tell_end(other.context, "p1")
    assert ended_by_hand(clone.context, record, "p1") and not ended_by_hand(clone.context, record, "p2")
    assert clone.context.ledger().events(record.id, kind=BY_HAND) == [], "it was the bucket that told"

    monkeypatch.setattr(sharing, "_PATIENCE", 0.05)
    monkeypatch.setattr(sharing, "pull_shared", lambda *_: threading.Event().wait(5))
    assert not sharing.tell_end(other.context, "p1"), "a store that hangs is not waited for"
