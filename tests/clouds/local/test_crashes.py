"""Any caller may die at any instant: the next one finds a pod or no pod, never half a one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.clouds.local import pods
from trainyard.clouds.local import LocalCloud, gpulocks, launch, registry
from trainyard.clouds.local import cloud as module
from trainyard.clouds.local.hardware import GpuDevice
from trainyard.clouds.protocol import Offer
from trainyard.errors import CloudRefused
from trainyard.filelock import hold_lock

ROUNDS = 6


@pytest.fixture
def crashable(cloud: LocalCloud) -> Iterator[pods.Crashable]:
    """Return a process whose creates and terminates can be killed."""
    process = pods.Crashable(cloud.root)
    yield process
    process.close()


def _has_one(cloud: LocalCloud, name: str) -> bool:
    return len(supervisors(cloud, name)) == 1


def _has_none(cloud: LocalCloud, name: str) -> bool:
    return supervisors(cloud, name) == []


def supervisors(cloud: LocalCloud, name: str) -> list[int]:
    """Return the Python processes that were started for a pod's folder and are not the subreaper."""
    folder = cloud.root / "pods" / name
    subreaper = registry.holder(folder / "subreaper")
    return [pid for pid in pods.living(str(folder)) if pid != subreaper and b"supervisor.main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def crash_round(cloud: LocalCloud, crashable: pods.Crashable, source: random.Random, name: str) -> None:
    """Kill a creator, create again, kill a terminator, terminate: exactly one supervisor in between, nothing after."""
    pid = crashable.start("create", name)
    time.sleep(source.uniform(0, 0.09))
    os.kill(pid, signal.SIGKILL)
    crashable.wait()
    pod = pods.create(cloud, pods.spec(name))
    assert pods.listens(pod)
    pods.wait_for(lambda: len(supervisors(cloud, name)) == 1, "the losers to leave")
    pid = crashable.start("terminate", name)
    time.sleep(source.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
    crashable.wait()
    cloud.terminate(name)

    assert not pods.is_open(pod)
    assert cloud.get(name) is None
    assert [left for left in pods.leftovers(cloud) if not left.startswith("pods/.new-")] == []


def test_a_creator_killed_at_any_instant_leaves_a_name_that_works(
    cloud: LocalCloud, crashable: pods.Crashable, seed: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(ROUNDS):
        crash_round(cloud, crashable, seed, f"round-{number}")
    monkeypatch.setattr(registry, "STALE_CLAIM", 0.0)
    assert cloud.list() == []
    assert pods.leftovers(cloud) == []


def test_a_pod_whose_creator_died_before_the_start_is_started_by_whoever_lists(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING", 0.0)
    monkeypatch.setattr(launch, "start", _dies)
    with pytest.raises(KeyboardInterrupt):
        pods.create(cloud, pods.spec())
    monkeypatch.undo()
    monkeypatch.setattr(module, "PENDING", 0.0)

    first = cloud.list()
    assert [pod.id for pod in first] == [pods.NAME]
    assert first[0].ssh is not None
    assert pods.answers(first[0]).startswith(b"SSH-2.0")


def test_simultaneous_creates_of_one_name_give_one_supervisor_and_one_port(cloud: LocalCloud) -> None:
    for number in range(3):
        found: list[object] = []

        def make(name: str = f"same-{number}", found: list[object] = found) -> None:
            try:
                found.append(pods.create(cloud, pods.spec(name)).ssh)
            except Exception as error:
                found.append(error)

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(found) == 6 and len(set(map(str, found))) == 1, found
        pods.wait_for(partial(_has_one, cloud, f"same-{number}"), "the losers to leave")


def test_a_second_starter_that_falls_to_the_other_isolation_level_leaves_the_pod_to_the_first(cloud: LocalCloud, isolation: str) -> None:
    if isolation == "process":
        pytest.skip("on this isolation level the subreaper's lock stops it before")
    pod = pods.create(cloud, pods.spec())
    folder = cloud.root / "pods" / pod.id
    # It looked before the first one locked, then the machine refused it a namespace (no room for a process, say).
    registry.change(folder, isolation="process")
    assert launch._spawn(folder) == {"state": "taken"}
    pods.wait_for(lambda: registry.holder(folder / "subreaper") == 0, "the subreaper to leave")

    assert cloud.list() == [pod] and pods.is_open(pod)


def test_a_pod_whose_files_may_not_be_mounted_has_its_gpu_on_the_other_isolation_level(
    folder: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    if isolation == "process":
        pytest.skip("on this isolation level nothing is mounted")
    monkeypatch.delenv("TRAINYARD_LOCAL_ISOLATION")
    monkeypatch.setattr(gpulocks, "PLACES", ("/nowhere", str(folder)))
    cloud = LocalCloud(folder / "c")
    monkeypatch.setattr(cloud, "gpus", lambda: [GpuDevice(0, "RTX 4090", 24.0)])
    # As in a container that hides parts of /proc the mounts are refused, and only after the locks were taken.
    volume = f"/proc/{os.getpid()}"
    offer = Offer("gpu", "local", "RTX 4090", 1, 0.0)
    for number in range(5):
        pod = cloud.create(replace(pods.spec(f"fallen-{number}"), volume=volume), offer)
        assert pod.raw_status == "running (process)"
        cloud.terminate(pod.id)
    assert pods.leftovers(cloud) == []


def test_create_against_terminate_ends_with_one_pod_or_none(cloud: LocalCloud, seed: random.Random) -> None:
    for number in range(ROUNDS):
        name, made = f"duel-{number}", threading.Event()

        def make(name: str = name, made: threading.Event = made) -> None:
            # Ended while it started is an answer too.
            with contextlib.suppress(CloudRefused):
                pods.create(cloud, pods.spec(name))
            made.set()

        thread = threading.Thread(target=make)
        thread.start()
        time.sleep(seed.uniform(0, 0.06))
        while not made.is_set():
            cloud.terminate(name)
        thread.join()
        cloud.terminate(name)
        pods.wait_for(partial(_has_none, cloud, name), "the supervisor that came too late")
    assert pods.leftovers(cloud) == []


def test_many_may_terminate_the_same_pod_at_once(cloud: LocalCloud, token: str) -> None:
    pod = pods.tortured(cloud, token)
    errors: list[BaseException] = []

    def end() -> None:
        try:
            cloud.terminate(pod.id)
            assert pods.living(token) == []
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=end) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert pods.leftovers(cloud) == []


def test_the_end_of_a_pod_does_not_wait_for_its_files(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = pods.create(cloud, pods.spec())
    monkeypatch.setattr(registry, "REMOVAL", -1.0)  # as many files as can be
    cloud.terminate(pod.id)

    assert not pods.listens(pod) and cloud.list() == [] and cloud.ended(pod.id)["reason"] == "terminated"  # type: ignore[index]
    pods.wait_for(lambda: pods.leftovers(cloud) == [], "the removal behind it")


def test_files_whose_removal_was_broken_off_are_told_and_removed_by_who_lists_next(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pods.create(cloud, pods.spec())
    with monkeypatch.context() as killed:
        killed.setattr(registry, "REMOVAL", -1.0)
        killed.setattr(launch, "remove_behind", lambda *_: None)
        cloud.terminate(pod.id)
        (left,) = pods.leftovers(cloud)
        (cost,) = cloud.costs()
        assert (cost.kind, cost.id, cost.per_hour) == ("disk", pod.id, 0.0) and "being removed" in cost.name
    with hold_lock(cloud.root / left):  # another command's remover is at work
        assert cloud.list() == [] and pods.leftovers(cloud) == [left]

    assert cloud.list() == [] and pods.leftovers(cloud) == []
    assert cloud.ended(pod.id)["reason"] == "terminated"  # type: ignore[index]


def test_a_restart_of_the_machine_ends_a_pod(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec())
    folder = cloud.root / "pods" / pods.NAME
    saved = {name: (folder / name).read_bytes() for name in ("state.json", "port")}
    cloud.terminate(pod.id)
    (cloud.root / "ended" / f"{pod.id}.json").unlink()
    # What a machine finds on its disk after it was switched off: files, no lock, another boot id.
    folder.mkdir(parents=True)
    for name, data in saved.items():
        (folder / name).write_bytes(data)
    state = json.loads(saved["state.json"])
    (folder / "state.json").write_text(json.dumps({**state, "boot_id": "another"}))

    assert cloud.list() == []
    assert cloud.ended(pod.id)["reason"] == "reboot"  # type: ignore[index]


def test_whoever_lists_does_not_overwrite_the_reason_that_the_supervisor_gave(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec())
    state = (cloud.root / "pods" / pod.id / "state.json").read_bytes()
    cloud.terminate(pod.id)
    # The supervisor has kept its record and is about to remove its folder.
    record = cloud.root / "ended" / f"{pod.id}.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "reason": "end of the lease"}))
    (cloud.root / "trash" / f"{pod.id}~abc").mkdir()
    (cloud.root / "trash" / f"{pod.id}~abc" / "state.json").write_bytes(state)

    assert cloud.list() == [] and pods.leftovers(cloud) == []
    assert cloud.ended(pod.id)["reason"] == "end of the lease"  # type: ignore[index]


def test_the_record_of_an_earlier_pod_of_the_name_is_replaced(cloud: LocalCloud) -> None:
    first = pods.create(cloud, pods.spec())
    cloud.terminate(first.id)
    second = pods.create(cloud, pods.spec())
    cloud.terminate(second.id)

    assert first.created is not None and second.created is not None
    kept = cloud.ended(second.id)["created"]  # type: ignore[index]
    assert abs(kept - second.created.timestamp()) < 0.001 < kept - first.created.timestamp()


def test_a_folder_that_never_became_a_pod_is_swept_and_not_listed(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.registry.make()
    (cloud.root / "pods" / ".new-x-1-ab" / "home").mkdir(parents=True)

    assert cloud.list() == []
    assert pods.leftovers(cloud) == ["pods/.new-x-1-ab"]
    monkeypatch.setattr(registry, "STALE_CLAIM", -1.0)
    assert cloud.list() == []
    assert pods.leftovers(cloud) == []


def test_a_pod_with_a_damaged_record_is_shown_as_ours_and_can_be_ended(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec())
    (cloud.root / "pods" / pod.id / "state.json").write_text("{")

    shown = cloud.get(pod.id)
    assert shown is not None and shown.end_unreadable and shown.lease_id == "abcdef0123"
    cloud.terminate(pod.id)
    assert cloud.list() == []


def _dies(*_: object) -> None:
    raise KeyboardInterrupt
