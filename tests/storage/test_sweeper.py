"""What a sweep takes away and what it never touches, on a real versioned store and on one without versions, at times passed in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.conftest import PART, Workspace, here
from tests.storage.test_result_verbs import HASTE, Clone, claimed, fresh_clone
from trainyard.cli.common import only_stack
from trainyard.clock import format_time
from trainyard.config import Places
from trainyard.errors import RefusedError, StoreError, UserError
from trainyard.runs.verbs import copies, gc
from trainyard.storage import lifecycle, versions
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.commit import commit
from trainyard.storage.manifest import Keep, ResultKey
from trainyard.storage.objects import open_uploads
from trainyard.storage.rules import Rule
from trainyard.storage.sweeper import DAY, SweepItem, plan, sweep

RUN = ResultKey("greg", "r", 1)
LATER = 40 * DAY


def put(settings: StoreSettings, *keys: str, body: bytes = b"x" * 10) -> object:
    for key in keys:
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=body)
    return keys


def keys(settings: StoreSettings) -> set[str]:
    return {item["Key"] for item in s3(settings).list_objects_v2(Bucket=settings.bucket).get("Contents", [])}


def all_versions(settings: StoreSettings) -> list[versions.Version]:
    return list(versions.versions(settings, versioned=True))


def planned(items: list[SweepItem]) -> dict[tuple[str, str], int]:
    return {(item.kind, item.what): item.count for item in items}


def committed(settings: StoreSettings, pod: Workspace, key: ResultKey, keep: Keep | None = None) -> None:
    token = claimed(settings, pod.root, key)
    commit(settings, here(), key, pod.output, ["model/config.json"], [], token=token, keep=keep, part_size=PART, patience=HASTE)


@pytest.fixture
def versioned(settings: StoreSettings) -> StoreSettings:
    """A bucket that keeps versions, as the local server's are made, on any server."""
    s3(settings).put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    return settings


@pytest.fixture
def unversioned(settings: StoreSettings) -> StoreSettings:
    """The same server, whose bucket keeps no versions: it is asked whether it does, and says no."""
    s3(settings).put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Suspended"})
    return settings


def test_a_dead_attempt_goes_with_its_objects_and_its_claim_and_all_of_their_versions(versioned: StoreSettings, tmp_path: Path) -> None:
    settings = versioned
    claimed(settings, tmp_path, RUN)
    for _ in range(2):  # twice: the first version lies behind the second
        put(settings, "models/greg/r/1/model/half", "checkpoints/greg/r/1/step-1/half")
    s3(settings).create_multipart_upload(Bucket=settings.bucket, Key="models/greg/r/1/model/big")

    items = plan(settings, time.time() + LATER)

    assert planned(items) == {("dead attempt", "greg/r/1"): 5, ("open upload", "our uploads"): 1}
    assert items[0].bytes > 40 and "claimed by greg on gregs-laptop, 2026-11-24T10:12:34Z" in items[0].why
    assert plan(settings, time.time() + 31.5 * DAY) == [], "the longest lease and a day"
    assert sweep(settings, items, time.time() + LATER) == []
    assert all_versions(settings) == [] and open_uploads(settings) == []
    assert plan(settings, time.time() + LATER) == []


Left = Callable[[StoreSettings, Path, Workspace], object]
LIVING: dict[str, Left] = {
    "a success": lambda s, _, pod: committed(s, pod, RUN),
    "a result that was kept": lambda s, _, pod: committed(s, pod, RUN, Keep("exited 1", 1)),
    "what a pod has committed alone": lambda s, root, _: (claimed(s, root, RUN), put(s, "models/greg/r/1/_POD_COMMITTED")),
    "what a pod has packed": lambda s, root, _: (claimed(s, root, RUN), put(s, "models/greg/r/1/_pod.tar")),
    "a manifest whose marker was not written": lambda s, root, _: (claimed(s, root, RUN), put(s, "models/greg/r/1/_manifest.json")),
    "a complete checkpoint": lambda s, root, _: (claimed(s, root, RUN), put(s, "checkpoints/greg/r/1/a/_CHECKPOINT")),
    "objects without a claim": lambda s, *_: put(s, "models/greg/r/1/model/x"),
    "a claim that cannot be read": lambda s, *_: put(s, "attempts/greg/r/1", body=b"not a claim"),
    "the log": lambda s, root, _: (claimed(s, root, RUN), put(s, "logs/greg/r/1/train.log")),
    "data": lambda s, *_: put(s, "data/abc", "closed/0123456789abcdef", "lifecycle/x", "somebody/elses"),
}


@pytest.mark.parametrize("left", LIVING.values(), ids=LIVING)
def test_what_could_be_a_result_or_is_nobodys_to_judge_stays(left: Left, settings: StoreSettings, tmp_path: Path, pod: Workspace) -> None:
    left(settings, tmp_path, pod)
    before = all_versions(settings)

    assert plan(settings, time.time() + LATER) == []
    assert all_versions(settings) == before


def test_an_attempt_that_was_claimed_or_written_lately_is_not_dead(settings: StoreSettings, tmp_path: Path) -> None:
    claimed(settings, tmp_path, RUN)  # 2026-11-24 it says, and the store says it was written now
    late = ResultKey("greg", "late", 1)
    claimed(settings, tmp_path, late, time=format_time(time.time() + 30 * DAY))

    assert planned(plan(settings, time.time() + 33 * DAY)) == {("dead attempt", "greg/r/1"): 1}
    assert plan(settings, time.time() + 33 * DAY, alive={RUN}) == [], "a record here says that it is not over"
    assert len(plan(settings, time.time() + 63 * DAY)) == 2


def test_checkpoints_of_a_success_go_after_two_weeks_those_of_others_stay(settings: StoreSettings, pod: Workspace) -> None:
    other = ResultKey("greg", "other", 1)
    committed(settings, pod, RUN)
    committed(settings, pod, other, Keep("exited 1", 1))
    for key in (RUN, other):
        put(settings, f"checkpoints/{key}/step-1/_CHECKPOINT", f"checkpoints/{key}/step-1/model", f"checkpoints/{key}/step-2/half")

    assert plan(settings, time.time() + 13 * DAY) == []
    now = time.time() + 15 * DAY
    assert planned(plan(settings, now)) == {("checkpoints", "greg/r/1"): 3}
    assert sweep(settings, plan(settings, now), now) == []
    assert planned(plan(settings, time.time() + LATER)) == {("checkpoints", "checkpoints/greg/other/1/step-2/"): 1}


def test_checkpoints_of_a_lost_attempt_go_when_a_later_one_has_succeeded_long_ago(settings: StoreSettings, pod: Workspace) -> None:
    lost, later = RUN, ResultKey("greg", "r", 2)
    claimed(settings, pod.root, lost)
    put(settings, f"{lost.checkpoints}step-1/_CHECKPOINT", f"{lost.checkpoints}step-1/model")
    assert plan(settings, time.time() + 60 * DAY) == [], "it is all that is left of the run"
    committed(settings, pod, later)

    assert plan(settings, time.time() + 45 * DAY) == []
    now = time.time() + 47 * DAY
    assert planned(plan(settings, now)) == {("checkpoints", "greg/r/1"): 2}
    assert sweep(settings, plan(settings, now), now) == [] and not any(key.startswith("checkpoints/") for key in keys(settings))


def test_rules_are_carried_out_where_the_store_carries_none_out(settings: StoreSettings) -> None:
    lifecycle.put(
        settings, [Rule("logs", "logs/", expire_days=30), Rule("old", "", noncurrent_days=10), Rule("cut", "mine/", abort_uploads_days=3)]
    )
    put(settings, "logs/greg/r/1/train.log", "models/greg/r/1/model/x", "attempts/greg/r/1")
    put(settings, "models/greg/r/1/model/x")
    s3(settings).create_multipart_upload(Bucket=settings.bucket, Key="mine/big")
    begun = time.time()

    assert plan(settings, begun + 2 * DAY) == []
    assert planned(plan(settings, begun + 11 * DAY)) == {("noncurrent", "rule 'old'"): 1, ("open upload", "rule 'cut'"): 1}
    now = begun + 31 * DAY
    items = plan(settings, now)
    assert planned(items)["expired", "rule 'logs'"] == 1
    assert sweep(settings, items, now) == []
    assert keys(settings) == {"models/greg/r/1/model/x", "attempts/greg/r/1", "lifecycle/rules.json"}
    # The log lies behind a delete marker now, as in a store that does it itself; it goes as a noncurrent version, then the marker.
    for kind, rule in (("noncurrent", "rule 'old'"), ("marker", "rule 'logs'")):
        assert planned(plan(settings, now)) == {(kind, rule): 1}
        assert sweep(settings, plan(settings, now), now) == []
    assert [one.key for one in all_versions(settings) if one.key.startswith("logs/")] == []


def test_a_rule_that_would_expire_results_is_not_carried_out_whoever_wrote_it(settings: StoreSettings) -> None:
    lifecycle.put(settings, [Rule("all", "", expire_days=1), Rule("m", "models/greg", expire_days=1)])
    put(settings, "models/greg/r/1/model/x", "attempts/greg/r/1")

    assert plan(settings, time.time() + 30 * DAY) == []


def test_tmp_is_emptied_after_a_day_without_versions_too(unversioned: StoreSettings) -> None:
    put(unversioned, "tmp/canary-x", "tmp/mounted-y")

    assert plan(unversioned, time.time() + 3600) == []
    now = time.time() + 2 * DAY
    assert planned(plan(unversioned, now)) == {("tmp", "tmp/canary-"): 1, ("tmp", "tmp/"): 1}
    assert sweep(unversioned, plan(unversioned, now), now) == [] and keys(unversioned) == set()


def test_what_was_sealed_between_look_and_removal_is_left_alone(settings: StoreSettings, tmp_path: Path) -> None:
    claimed(settings, tmp_path, RUN)
    put(settings, "models/greg/r/1/model/x")
    now = time.time() + LATER
    items = plan(settings, now)
    put(settings, "models/greg/r/1/_POD_COMMITTED")

    (problem,) = sweep(settings, items, now)

    assert "nothing of it was touched" in problem
    assert {"models/greg/r/1/model/x", "models/greg/r/1/_POD_COMMITTED", "attempts/greg/r/1"} <= keys(settings)


SWEEP = """
import json, os, signal, sys
from trainyard.secret import Secret
from trainyard.storage import versions
from trainyard.storage.client import StoreSettings
from trainyard.storage.sweeper import plan, sweep
told = json.loads(sys.stdin.read())
settings = StoreSettings(kind="local", endpoint=told["endpoint"], region="us-east-1", bucket=told["bucket"],
                         access_key=Secret(told["access"]), secret_key=Secret(told["secret"]))
remove_key, calls = versions._remove_key, iter(range(10_000))
def slain(settings, group):
    left = remove_key(settings, group)
    if next(calls) == told["killed_at"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return left
versions._remove_key = slain
versions.THREADS = 2  # of 16 at once the killed one may have asked for all of them
sweep(settings, plan(settings, told["now"]), told["now"])
"""


def sweeping(settings: StoreSettings, now: float, killed_at: int) -> subprocess.Popen[bytes]:
    told = {
        "endpoint": settings.endpoint, "bucket": settings.bucket, "access": settings.access_key.reveal(),
        "secret": settings.secret_key.reveal(), "now": now, "killed_at": killed_at,
    }  # fmt: skip
    started = subprocess.Popen([sys.executable, "-c", SWEEP], stdin=subprocess.PIPE)
    assert started.stdin
    started.stdin.write(json.dumps(told).encode())
    started.stdin.close()
    return started


def test_a_killed_sweep_is_finished_by_two_at_once_and_nothing_else_goes(settings: StoreSettings, tmp_path: Path, pod: Workspace) -> None:
    committed(settings, pod, ResultKey("greg", "good", 1))
    good = keys(settings)
    claimed(settings, tmp_path, RUN)
    put(settings, *(f"models/greg/r/1/model/{number}" for number in range(20)))
    now = time.time() + LATER

    with sweeping(settings, now, killed_at=5) as killed:
        assert killed.wait() == -signal.SIGKILL
    left = keys(settings) - good
    assert "attempts/greg/r/1" in left and 1 < len(left) < 21, "the claim goes last"
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda: sweep(settings, plan(settings, now), now)) for _ in range(2)]
    assert all("as it was when it was looked at" in problem for one in both for problem in one.result())

    assert keys(settings) == good


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings) -> Clone:
    return fresh_clone(tmp_path / "clone", store_places, settings)


def test_gc_shows_what_goes_and_removes_nothing_unless_somebody_agrees(
    clone: Clone, settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "_now", lambda store: time.time() + LATER)
    assert gc.collect(clone.context, "local", dry_run=False, yes=False)[0] == 0 and "nothing has to go" in clone.said()
    claimed(settings, tmp_path, RUN)
    put(settings, "models/greg/r/1/model/half", body=b"h" * 2000)

    code, report = gc.collect(clone.context, "local", dry_run=True, yes=True)
    text = clone.said()
    assert code == 0 and not report.removed and "dead attempt" in text and "2.2 kB  2 objects  greg/r/1" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    with pytest.raises(RefusedError, match="nothing was removed"):
        gc.collect(clone.context, "local", dry_run=False, yes=False)
    assert len(keys(settings)) == 2
    code, report = gc.collect(clone.context, None, dry_run=False, yes=True)
    assert code == 0 and report.removed and keys(settings) == set()


def test_gc_removes_copies_of_results_that_nobody_has_asked_lately(clone: Clone) -> None:
    places = clone.context.places
    old, new = (copies.used(places, ResultKey("ann", "a", attempt)) for attempt in (1, 2))
    for path in (old, new):
        (path / "model.safetensors").write_bytes(b"m" * 3000)
    os.utime(old, (time.time() - 2 * copies.FRESH,) * 2)

    code, report = gc.collect(clone.context, "local", dry_run=True, yes=False)
    [row] = report.items
    assert (code, row.kind, row.what, row.objects, row.bytes) == (0, "copy", "ann/a/1", 1, 3000) and old.is_dir()
    assert gc.collect(clone.context, "local", dry_run=False, yes=True)[0] == 0
    assert not old.exists() and new.is_dir()
    os.utime(new, (time.time() - 2 * copies.FRESH,) * 2)
    gc.collect(clone.context, "local", dry_run=False, yes=True)
    assert list(copies.root_of(places).iterdir()) == []


def test_a_stack_that_nothing_was_run_on_yet_does_not_fail_the_gc_of_all(clone: Clone) -> None:
    (clone.context.places.root / "Pulumi.local.yaml").write_text("config:\n  trainyard:bucket: never-made\n")

    assert gc.collect(clone.context, None, dry_run=True, yes=False)[0] == 0
    assert "never-made: left out: there is no such bucket" in clone.said()
    with pytest.raises(StoreError, match="NoSuchBucket"):
        gc.collect(clone.context, "local", dry_run=True, yes=False)


def test_gc_says_which_uploads_it_could_not_see(clone: Clone, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "may_list_uploads", lambda store: False)

    code, report = gc.collect(clone.context, "local", dry_run=True, yes=False)

    assert code == 0 and len(report.unseen) == 1 and "nothing has to go" in (text := clone.said()) and "ListBucketMultipartUploads" in text


def test_one_stack_and_all_stacks_exclude_each_other() -> None:
    assert (
        only_stack(None, all_stacks=False) == "local"
        and only_stack("x", all_stacks=False) == "x"
        and only_stack(None, all_stacks=True) is None
    )
    with pytest.raises(UserError, match="--stack x is one stack and --all-stacks are all"):
        only_stack("x", all_stacks=True)


def test_a_clock_that_is_ahead_makes_nothing_old(
    clone: Clone, settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(settings, tmp_path, RUN)
    put(settings, "tmp/x")
    assert abs(gc._now(settings) - time.time()) < 5
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + LATER)

    assert gc._now(settings) < real() + 5


def test_what_a_store_does_not_let_go_is_told(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed(settings, tmp_path, RUN)
    put(settings, "models/greg/r/1/model/x")
    monkeypatch.setattr(versions, "_remove_key", lambda settings, group: "AccessDenied: Object Lock")

    now = time.time() + LATER
    assert sweep(settings, plan(settings, now), now) == ["models/greg/r/1/model/x: AccessDenied: Object Lock"]
    assert "attempts/greg/r/1" in keys(settings)
