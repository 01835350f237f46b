"""A pod commits alone: one tar by signed URLs, a marker that no training can forge; any machine with the bucket seals it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import PART, Workspace, tree
from tests.storage.lone import (
    HASTE,
    POD_POINTS,
    SEAL_POINTS,
    WHERE,
    Pod,
    check_sealed,
    keys,
    killed_pod,
    killed_seal,
    new_pod,
    order_of,
)  # fmt: skip
from tests.storage.lying_proxy import Fault, LyingProxy
from trainyard.errors import StoreError
from trainyard.pod import tarball
from trainyard.pod.signed import Lost, SignedRequests, mac_of
from trainyard.secret import Secret
from trainyard.storage import bucket, objects, podcommit, podplan, seal
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.download import download
from trainyard.storage.manifest import ResultKey
from trainyard.storage.podcommit import seal_pod_commit


@pytest.fixture
def lone(settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch) -> Pod:
    monkeypatch.setattr(tarball, "SMALLEST_PART", PART)
    return new_pod(settings, pod)


def test_the_tar_becomes_a_result_like_any_other(settings: StoreSettings, pod: Workspace, lone: Pod, tmp_path: Path) -> None:
    assert lone.commit() == 0, lone.last
    assert keys(settings) == [WHERE.pod_committed, WHERE.pod_tar]

    done = seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    got = download(settings, "greg/r1", tmp_path, whole=True)

    assert done is not None and done.ending is None and got.manifest_sha256 == done.manifest_sha256
    model = {path: body for path, body in tree(Path(pod.output)).items() if path.startswith("model/")}
    assert {path: body for path, body in tree(tmp_path).items() if not path.startswith("_")} == model
    assert seal.read(settings, WHERE.logs + "train.log") == b"step 1\nstep 2\n"
    assert not {WHERE.pod_committed, WHERE.pod_tar} & set(keys(settings)) and objects.open_uploads(settings) == []


def test_what_a_dead_controller_left_open_is_closed_with_the_seal(settings: StoreSettings, lone: Pod) -> None:
    assert lone.commit() == 0
    for key in (WHERE.model + "model.safetensors", WHERE.logs + "train.log", WHERE.checkpoints + "checkpoint-10/optimizer.pt"):
        objects.begin(settings, key)
    assert seal_pod_commit(settings, WHERE, "t1", patience=HASTE) is not None
    assert objects.open_uploads(settings) == []


def test_what_a_failure_left_is_kept_with_its_newest_checkpoints_and_the_pods_word(
    settings: StoreSettings, pod: Workspace, lone: Pod, tmp_path: Path
) -> None:
    pod.write("output/model/half.pt", b"excluded from a success")
    assert lone.commit({"exit_code": 3, "reason": ""}) == 0

    done = seal_pod_commit(settings, WHERE, patience=HASTE)
    got = download(settings, "greg/r1", tmp_path)

    assert done is not None and done.ending is not None
    assert (done.ending.why, done.ending.exit_code, done.ending.checkpoints) == ("exited 3", 3, ("checkpoints/checkpoint-10",))
    left = {path: body for path, body in tree(Path(pod.output)).items() if path.startswith(("model/", "checkpoints/"))}
    assert {path: body for path, body in tree(tmp_path).items() if not path.startswith("_")} == left
    assert got.ending is not None


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        ({"exit_code": 75, "reason": "the lease's stop has come"}, "the lease's stop has come"),
        ({"exit_code": None, "reason": "it is no more, and left no exit code"}, "has no verdict: it is no more, and left no exit code"),
    ],
)
def test_the_marker_tells_the_verdict(settings: StoreSettings, lone: Pod, ending: dict[str, Any], why: str) -> None:
    assert lone.commit(ending) == 0
    assert json.loads(seal.read(settings, WHERE.pod_committed) or b"")["why"] == why


def test_outputs_that_no_pattern_finds_are_no_success_and_not_lost(settings: StoreSettings, pod: Workspace, lone: Pod) -> None:
    lone.plan = {**lone.plan, "outputs": ["weights/**"]}
    assert lone.commit() == 0
    done = seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    assert done is not None and done.ending is not None and "none of its files is an output" in done.ending.why


def test_every_name_that_a_result_may_have_fits_into_the_tar(settings: StoreSettings, pod: Workspace, lone: Pod) -> None:
    names = ["ä" * 120 + "/" + "b" * 200, "-rf", "a b*[c]", "x" * 250]
    for name in names:
        pod.write(f"output/model/{name}", b"odd")
    assert lone.commit() == 0
    assert seal_pod_commit(settings, WHERE, "t1", patience=HASTE) is not None
    assert [seal.read(settings, f"{WHERE.prefix}model/{name}") for name in names] == [b"odd"] * 4


def test_a_person_can_open_the_tar(settings: StoreSettings, pod: Workspace, lone: Pod) -> None:
    pod.write("output/model/" + "d" * 150 + "/" + "e" * 150, b"long")
    lone.commit()
    with tarfile.open(fileobj=io.BytesIO(seal.read(settings, WHERE.pod_tar) or b"")) as tar:
        files = {info.name: tar.extractfile(info).read() for info in tar.getmembers()}  # type: ignore[union-attr]
    for path, body in tree(Path(pod.output)).items():
        if path.startswith("model/"):
            assert files[f"result/{path}"] == body
    assert files["logs/train.log"] == b"step 1\nstep 2\n" and "_index.json" in files


# ---- what changes while it is read


def test_a_file_that_changes_starts_the_tar_again(
    settings: StoreSettings, pod: Workspace, lone: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, real = 0, SignedRequests.once

    def once(self: SignedRequests, method: str, *rest: Any) -> Any:
        nonlocal times
        if method == "PUT" and times < 2:
            times += 1
            pod.write("output/model/config.json", b"written %d" % times)
        return real(self, method, *rest)

    monkeypatch.setattr(SignedRequests, "once", once)
    assert lone.commit() == 0
    done = seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    assert done is not None and done.ending is None
    assert seal.read(settings, WHERE.model + "config.json") == b"written 2"


def test_a_file_that_never_stands_still_is_left_out_and_the_rest_is_kept(
    settings: StoreSettings, pod: Workspace, lone: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = SignedRequests.once, 0

    def once(self: SignedRequests, method: str, *rest: Any) -> Any:
        nonlocal times
        times += 1
        pod.write("output/model/config.json", b"written %d" % times)
        return real(self, method, *rest)

    monkeypatch.setattr(SignedRequests, "once", once)
    assert lone.commit() == 0
    done = seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    assert done is not None and done.ending is not None and "still being written" in done.ending.why
    assert [(entry.path, entry.wanted) for entry in done.left_out if "still" in entry.why] == [("model/config.json", True)]


# ---- stores


def test_an_outage_is_waited_out_and_the_lease_is_the_limit(
    through: StoreSettings, proxy: LyingProxy, pod: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarball, "SMALLEST_PART", PART)
    lone = new_pod(through, pod)
    real, down = SignedRequests.once, 600.0

    def once(self: SignedRequests, *rest: Any) -> Any:
        if lone.now < down:
            raise ConnectionRefusedError("nobody is there")
        return real(self, *rest)

    monkeypatch.setattr(SignedRequests, "once", once)
    assert lone.commit(deadline=300) == 1 and "nobody is there" in lone.last["why"] and lone.now <= 300
    assert lone.commit(deadline=3600) == 0 and 600 <= lone.now < 700


def test_a_part_that_is_damaged_on_the_way_is_sent_again(lone: Pod, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    real, damaged = SignedRequests.once, list[str]()

    def once(self: SignedRequests, method: str, url: str, body: Any, *rest: Any) -> Any:
        if method == "PUT" and "partNumber" in url and len(damaged) < 2:
            damaged.append(url)
            body = b"?" + bytes(body)[1:]
        return real(self, method, url, body, *rest)

    monkeypatch.setattr(SignedRequests, "once", once)
    assert lone.commit() == 0 and len(damaged) == 2
    assert seal_pod_commit(settings, WHERE, "t1", patience=HASTE) is not None


def test_a_marker_that_is_damaged_on_the_way_is_sent_again_for_it_can_be_written_only_once(
    through: StoreSettings, settings: StoreSettings, proxy: LyingProxy, pod: Workspace
) -> None:
    lone = new_pod(through, pod)
    proxy.faults.append(Fault("Put", "corrupt", key=WHERE.pod_committed))
    assert lone.commit() == 0, lone.last
    assert seal_pod_commit(settings, WHERE, "t1", patience=HASTE) is not None and WHERE.success in keys(settings)


def test_an_upload_that_was_swept_says_so_and_a_new_plan_helps(settings: StoreSettings, pod: Workspace, lone: Pod) -> None:
    objects.drop_uploads(settings, WHERE.pod_tar)
    assert lone.commit() == 1 and "knows the upload of the plan no more" in lone.last["why"]

    lone.plan = podplan.open_plan(settings, order_of(pod), time.time() + 3600, 1, str(lone.plan["upload"]))[0]
    assert lone.commit() == 0


class InMemory:
    """How many bytes were on their way through this machine, in all and at once."""

    def __init__(self, function: Any) -> None:
        self.function, self.lock = function, threading.Lock()
        self.whole = self.now = self.most = 0

    def go(self, *arguments: Any) -> None:
        with self.lock:
            self.whole, self.now = self.whole + arguments[-1], self.now + arguments[-1]
            self.most = max(self.most, self.now)
        try:
            self.function(*arguments)
        finally:
            with self.lock:
                self.now -= arguments[-1]


def test_where_a_store_copies_no_ranges_they_pass_through_this_machine_few_at_a_time(
    settings: StoreSettings, pod: Workspace, lone: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        pod.write(f"output/model/more-{number}.bin", os.urandom(2 * PART + number))
    lone.commit()
    monkeypatch.setattr(objects, "copy_part", lambda *_: False)
    monkeypatch.setattr(podcommit, "IN_MEMORY", 2 * PART)
    held = InMemory(podcommit.OfTar._pass_through)
    monkeypatch.setattr(podcommit.OfTar, "_pass_through", lambda *arguments: held.go(*arguments))
    assert seal_pod_commit(settings, WHERE, "t1", patience=HASTE) is not None
    assert WHERE.success in keys(settings)
    assert held.whole > 6 * PART and PART < held.most <= 2 * PART


def test_a_part_larger_than_the_room_in_memory_goes_alone_and_a_failed_one_gives_its_room_back() -> None:
    room = podcommit._Room(10)
    with pytest.raises(StoreError), room.hold(11):
        raise StoreError("the store refused it")
    with room.hold(10):
        assert room.taken == 10
    assert room.taken == 0 and podcommit.IN_MEMORY <= 100 << 20


def test_a_pod_that_finds_a_result_leaves_it_as_it_is(settings: StoreSettings, lone: Pod) -> None:
    lone.commit()
    seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    before = keys(settings)
    assert lone.commit() == 0 and lone.last["what"] == "a controller had committed it"
    assert keys(settings) == before


def test_the_url_of_an_earlier_plan_goes_on_with_its_upload(settings: StoreSettings, pod: Workspace, lone: Pod) -> None:
    again = podplan.open_plan(settings, order_of(pod), time.time() + 3600, 1, str(lone.plan["upload"]))[0]
    assert again["upload"] == lone.plan["upload"]
    other = podplan.open_plan(settings, order_of(pod), time.time() + 3600, 1)[0]
    assert other["upload"] != lone.plan["upload"] and [u.upload_id for u in objects.open_uploads(settings)] == [other["upload"]]


@pytest.mark.parametrize("disk", [0, 20 * 10**9, 10**11, 10**12, 3 * 10**14])
def test_the_parts_of_any_tar_fit_the_plan_of_its_disk_and_the_rules_of_any_store(disk: int) -> None:
    count = podplan.url_count(disk)
    for total in (1, 5 << 20, 1 << 30, 100 * 10**9, 10**12, 5 << 40):
        if total <= (disk or total):
            size = tarball.part_size(total, count)
            assert 64 <= count <= 10_000 and 5 << 20 <= size <= 5 << 30 and size * count >= total
    with pytest.raises(Lost, match="or into one object"):
        tarball.part_size((5 << 40) + 1, count)


# ---- what cannot be trusted


def forge(settings: StoreSettings, **changes: Any) -> None:
    said = json.loads(seal.read(settings, WHERE.pod_committed) or b"")
    s3(settings).put_object(Bucket=settings.bucket, Key=WHERE.pod_committed, Body=json.dumps({**said, **changes}).encode())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"exit_code": 0, "why": None}, "was changed after the pod wrote it"),
        ({"secret": "0" * 64}, "does not know the secret"),
        ({"mac": ""}, "was changed after the pod wrote it"),
    ],
)
def test_a_marker_that_is_not_the_watchdogs_is_an_error_that_names_it_and_nothing_goes(
    settings: StoreSettings, lone: Pod, changes: dict[str, Any], problem: str
) -> None:
    lone.commit({"exit_code": 1, "reason": ""})
    forge(settings, **changes)
    before = keys(settings)
    with pytest.raises(StoreError, match=problem) as error:
        seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    assert WHERE.pod_committed in error.value.message and keys(settings) == before


def test_a_training_with_the_result_and_no_plan_can_make_no_marker(settings: StoreSettings, pod: Workspace, lone: Pod) -> None:
    said = {"version": 1, "attempt": str(WHERE), "token": "t1", "exit_code": 0, "why": None, "secret": "f" * 64}
    said["mac"] = mac_of("f" * 64, said)
    pod.write("output/_POD_COMMITTED", json.dumps(said).encode())
    pod.write("output/_pod.tar", b"mine")
    assert lone.commit() == 0
    assert seal.read(settings, WHERE.pod_committed) != json.dumps(said).encode()
    left = seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    assert left is not None and not {"_POD_COMMITTED", "_pod.tar"} & {item.key.rpartition("/")[2] for item in bucket.listing(settings, "")}


def test_another_runs_marker_and_a_tar_that_is_not_the_markers_are_refused(settings: StoreSettings, lone: Pod) -> None:
    lone.commit()
    with pytest.raises(StoreError, match="belongs to another run, whose token is 't1'"):
        seal_pod_commit(settings, WHERE, "t2", patience=HASTE)
    metadata = s3(settings).head_object(Bucket=settings.bucket, Key=WHERE.pod_tar)["Metadata"]
    s3(settings).put_object(Bucket=settings.bucket, Key=WHERE.pod_tar, Body=b"short", Metadata=metadata)
    with pytest.raises(StoreError, match="has 5 bytes"):
        seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    s3(settings).delete_object(Bucket=settings.bucket, Key=WHERE.pod_tar)
    with pytest.raises(StoreError, match="there is no "):
        seal_pod_commit(settings, WHERE, "t1", patience=HASTE)


def test_the_secret_follows_from_the_buckets_keys_and_the_run_alone(settings: StoreSettings) -> None:
    one = podplan.secret_of(settings, WHERE, "t1")
    assert one == podplan.secret_of(replace(settings, endpoint="https://elsewhere"), WHERE, "t1")
    others = {
        podplan.secret_of(settings, WHERE, "t2"),
        podplan.secret_of(settings, ResultKey("greg", "r1", 2), "t1"),
        podplan.secret_of(replace(settings, bucket="other"), WHERE, "t1"),
        podplan.secret_of(replace(settings, secret_key=Secret("x")), WHERE, "t1"),
    }
    assert len({one, *others}) == 5


# ---- kills


DICE = random.Random(int(os.environ["TRAINYARD_TEST_SEED"]))


@pytest.mark.parametrize("at", sorted(DICE.sample(POD_POINTS, 3)))
def test_the_pods_part_killed_at_any_request_goes_on(
    settings: StoreSettings, pod: Workspace, lone: Pod, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    killed_pod(lone, monkeypatch, at)
    seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    check_sealed(settings, pod)


@pytest.mark.parametrize("at", sorted(DICE.sample(SEAL_POINTS, 3)))
def test_the_seal_killed_at_any_request_goes_on(
    settings: StoreSettings, pod: Workspace, lone: Pod, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    lone.commit()
    killed_seal(settings, monkeypatch, at)
    check_sealed(settings, pod)


def test_two_machines_seal_at_once(settings: StoreSettings, pod: Workspace, lone: Pod) -> None:
    lone.commit()
    with ThreadPoolExecutor(3) as pool:
        each = [pool.submit(seal_pod_commit, settings, WHERE, "t1", patience=HASTE) for _ in range(3)]
    for future in each:
        with contextlib.suppress(StoreError):
            future.result()
    seal_pod_commit(settings, WHERE, "t1", patience=HASTE)
    check_sealed(settings, pod)
