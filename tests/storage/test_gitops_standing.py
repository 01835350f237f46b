"""What a machine without a record of a run of gitops learns of it from the bucket alone: at work, over, or claimed and never trained."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.test_identity_and_record import make_record
from tests.storage.conftest import places_at
from trainyard.clock import format_time
from trainyard.errors import RefusedError, StoreError, UserError
from trainyard.filelock import hold_lock
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops import standing, sync
from trainyard.runs.gitops.committed import CommittedRuns
from trainyard.runs.gitops.plan import GitopsPlan
from trainyard.runs.planning.containers import container_of
from trainyard.runs.records.parts import RunPod, RunResult
from trainyard.runs.records.pod import pod_with
from trainyard.runs.records.record import RunFolder, RunRecord, as_json
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import takeup
from trainyard.runs.verbs.attach import cancel
from trainyard.runs.verbs.known import KnownRun
from trainyard.runs.verbs.takeup import take_up_named
from trainyard.storage import asked, markers
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.manifest import POD_COMMITTED, ResultKey
from trainyard.storage.markers import Claim

KEY = ResultKey("gitops", "first-0123456789ab", 1)
OLD = "2026-01-01T00:00:00Z"


@pytest.fixture
def machine(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandContext:
    """A fresh clone with the stack's settings and the bucket's keys."""
    context = CommandContext(places_at(tmp_path / "clone"), {}, Ui(json=True))
    context.places.root.mkdir(parents=True, exist_ok=True)
    (context.places.root / "Pulumi.dev.yaml").write_text("config:\n  trainyard:cloud: local\n")
    monkeypatch.setattr(takeup, "bucket_of", lambda *_: settings)
    return context


def known(machine: CommandContext, *desired: str) -> KnownRun | None:
    return standing.known_runs(machine, [("gitops", label) for label in desired]).get((KEY.user, KEY.run))


def claimed(settings: StoreSettings, machine: CommandContext, when: str, *, attempt: int = 1) -> None:
    markers.claim_attempt(settings, machine.places, replace(KEY, attempt=attempt), Claim("t1", "gitops", "runner", when))


def record_of(phase: str, **changes: object) -> RunRecord:
    record = make_record(user=KEY.user, label=KEY.run, token="t1", phase=phase, cloud="local")
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def publish(settings: StoreSettings, record: RunRecord) -> None:
    asked.put_record(settings, KEY, json.dumps(as_json(record)).encode())


def test_a_claim_is_at_work_for_an_hour_and_then_begun_again_as_the_next_attempt(settings: StoreSettings, machine: CommandContext) -> None:
    assert known(machine, KEY.run) is None
    claimed(settings, machine, OLD)
    dead = known(machine, KEY.run)
    claimed(settings, machine, str(format_time(time.time())), attempt=2)
    fresh = known(machine)

    assert dead is not None and (dead.standing, dead.next_attempt) == ("claimed", 2)
    assert fresh is not None and fresh.standing == "at work" and fresh.key.attempt == 2 and "runner" in fresh.says


def test_a_claim_that_a_killed_sync_left_and_no_file_asks_for_is_given_back_where_it_was_made(
    settings: StoreSettings, machine: CommandContext, tmp_path: Path
) -> None:
    claimed(settings, machine, str(format_time(time.time())))
    draft = machine.places.runs / KEY.user / KEY.run / ".new-t1"
    draft.mkdir(parents=True)
    elsewhere = CommandContext(places_at(tmp_path / "other"), {}, Ui(json=True))
    shutil.copytree(machine.places.root, elsewhere.places.root, ignore=shutil.ignore_patterns("runs"))
    before, mine = known(elsewhere), known(machine)
    assert mine is not None
    with hold_lock(draft.parent / "lock"):  # somebody writes it
        sync._give_back(machine, mine)
    assert draft.exists() and known(elsewhere) == before
    sync._give_back(machine, mine)
    after, again = known(elsewhere), known(elsewhere, KEY.run)

    assert before is not None and before.standing == "at work" and mine.standing == "claimed" and not draft.exists()
    assert after is not None and (after.standing, again and again.next_attempt) == ("claimed", 2), "nobody waits an hour for it"


@pytest.mark.parametrize("marker", ["_SUCCESS", "_KEPT", POD_COMMITTED])
def test_a_result_of_any_kind_is_over(marker: str, settings: StoreSettings, machine: CommandContext) -> None:
    claimed(settings, machine, str(format_time(time.time())))
    s3(settings).put_object(Bucket=settings.bucket, Key=KEY.prefix + marker, Body=b"{}")
    one = known(machine)
    assert one is not None and one.standing == "over"


def test_what_has_trained_or_ended_is_never_begun_again_and_what_was_interrupted_before_is(
    settings: StoreSettings, machine: CommandContext
) -> None:
    claimed(settings, machine, OLD)
    publish(settings, record_of("started", pod=RunPod(pod_id="p", end=OLD)))
    trained = known(machine)
    publish(settings, record_of("ended", ended=1.0, error="no capacity", error_code=4))
    ended = known(machine)
    publish(settings, record_of("ended", ended=1.0, error="interrupted", error_code=130))
    interrupted = known(machine)

    assert trained is not None and (trained.standing, trained.says) == ("over", "its pod is gone, and left no result")
    assert ended is not None and (ended.standing, ended.says) == ("over", "failed")
    assert interrupted is not None and (interrupted.standing, interrupted.next_attempt) == ("claimed", 2)


@pytest.mark.parametrize("pod", ["p", "anna@login1.example.org:4711", "ty-0-x@gpu1", "0920582c-7ff0-41ba"])
def test_a_run_that_only_the_bucket_knows_gets_a_folder_by_which_its_story_is_finished(
    settings: StoreSettings, machine: CommandContext, pod: str
) -> None:
    claimed(settings, machine, OLD)
    publish(settings, record_of("started", pod=RunPod(pod_id=pod, end=OLD, ssh_key_file="/gone/key")))
    one = known(machine)
    assert one is not None
    folder = takeup.folder_of(machine, one)
    assert folder is not None and folder.load().pod.ssh_key_file is None and folder.load().token == "t1"
    assert takeup.folder_of(machine, one) is None, "it is known here now"


def test_attach_takes_up_a_run_by_its_bucket_alone_unless_it_is_over_or_may_be_at_work(
    settings: StoreSettings, machine: CommandContext
) -> None:
    name = f"{KEY.user}/{KEY.run}"
    with pytest.raises(UserError, match="no bucket of this repository's stacks knows"):
        take_up_named(machine, name)
    claimed(settings, machine, str(format_time(time.time())))
    with pytest.raises(RefusedError, match="may be at work"):
        take_up_named(machine, name)
    publish(settings, record_of("ended", ended=1.0))
    with pytest.raises(UserError, match=r"is over, or s3://.* holds no record"):
        take_up_named(machine, name)
    publish(settings, record_of("started", pod=RunPod(pod_id="p", end=OLD)))
    assert take_up_named(machine, name).load().id.attempt == 1


def test_a_cancel_of_what_another_checkout_has_at_work_names_the_ways_to_end_its_pod(
    settings: StoreSettings, machine: CommandContext
) -> None:
    name = f"{KEY.user}/{KEY.run}"
    with pytest.raises(UserError, match="there is no run"):
        cancel(machine, name)
    claimed(settings, machine, str(format_time(time.time())))
    pod = RunPod(pod_id="p", end=str(format_time(time.time() + 60)))
    ways = {"local": " Or take it over here: invoke adopt p --stack local --key FILE", "ionet": ""}
    for cloud, way in ways.items():
        publish(settings, record_of("started", pod=pod, environment=cloud, container=container_of(cloud)))
        with pytest.raises(RefusedError, match=r"may be at work .*; it has no record here") as refused:
            cancel(machine, name)
        end = f"Or end its pod from here, saving nothing: invoke end p --stack {cloud}"
        assert refused.value.hint == f"Where it was started: invoke cancel {name}.{way}\n{end}"


def test_a_bucket_that_does_not_answer_is_an_error_and_nothing_that_may_be_begun(
    machine: CommandContext, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> list[int]:
        raise StoreError("no answer")

    claimed(settings, machine, OLD)
    monkeypatch.setattr(markers, "attempts", silent)
    with pytest.raises(StoreError):
        known(machine)


def test_a_bucket_that_is_not_made_yet_knows_of_no_run(
    machine: CommandContext, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeup, "bucket_of", lambda *_: replace(settings, bucket="not-made-yet"))
    assert known(machine, KEY.run) is None


def test_a_run_that_no_file_asks_for_is_finished_and_never_resumed(
    settings: StoreSettings, machine: CommandContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(settings, machine, OLD)
    publish(settings, record_of("started", resumes=2, pod=RunPod(pod_id="p", end=OLD)))
    one = known(machine)
    assert one is not None and one.standing == "over"
    driven: list[RunFolder] = []
    monkeypatch.setattr(sync, "_go_on", lambda _context, _report, folder: driven.append(folder))
    plan = GitopsPlan(CommittedRuns("0" * 40, (), ()), (), {(KEY.user, KEY.run): one})

    sync._finish(machine, sync.SyncReport(), one, orphan=plan.is_orphan(one))

    assert plan.is_orphan(one) and [folder.load().resumes for folder in driven] == [0]


def test_what_a_foreign_record_names_is_neither_run_nor_written_to_here(
    settings: StoreSettings, machine: CommandContext, tmp_path: Path
) -> None:
    """Whoever writes into the bucket must not have a command run on the machine that comes back."""
    run = ("sh", "-c", f"touch {tmp_path}/ran; exit 1")
    way = {"login_command": run, "send_command": run, "through": f"ssh://gate?config={tmp_path}/ssh_config", "ssh_key_file": "/their/key"}
    pod = RunPod(pod_id="p", lease_id="l", end=OLD, host="127.0.0.1", port=9, workspace="/workspace", **way)  # type: ignore[arg-type]
    claimed(settings, machine, OLD)
    publish(
        settings, record_of("started", pod=pod, deliver=f"local:{tmp_path}/theirs", result=RunResult(local_path="/their/out", owed=True))
    )

    folder = take_up_named(machine, f"{KEY.user}/{KEY.run}")
    record = folder.load()
    with pytest.raises(UserError, match="the SSH key"):
        pod_with(machine, record, lambda *_: tmp_path / "key").connect(timeout=1.0)

    assert not (tmp_path / "ran").exists() and record.deliver == "local"
    assert record.pod == replace(pod, login_command=None, send_command=None, through=None, ssh_key_file=None)
    assert record.result == RunResult()


@pytest.mark.parametrize(
    "change",
    [
        {"user": "../../x"},
        {"label": "other"},
        {"attempt": 2},
        {"environment": "../dev"},
        {"pod": RunPod(pod_id="p", user="-oProxyCommand=id")},
    ],
)
def test_a_record_that_is_another_attempts_or_names_what_is_no_name_is_none(
    settings: StoreSettings, machine: CommandContext, change: dict[str, object]
) -> None:
    claimed(settings, machine, OLD)
    publish(settings, record_of("started", **{"pod": RunPod(pod_id="p", end=OLD), **change}))
    with pytest.raises(UserError, match="holds no record of it"):
        take_up_named(machine, f"{KEY.user}/{KEY.run}")
