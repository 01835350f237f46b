"""The intent file: who may write it, what a crash at each point leaves, who waits for whom."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trainyard.leases import intents

FENCE, LEASE = "f" * 10, "1" * 10
NAME = f"ty-{FENCE}-{LEASE}-pod-0123abcd"

HOLDER = """
import sys
from pathlib import Path
from trainyard.leases import intents
with intents.hold(Path(sys.argv[1]), sys.argv[2], 100.0, lambda s: None) as intent:
    for step in sys.argv[3:]:
        kind, _, value = step.partition("=")
        if kind == "start": intent.start("offer", float(value))
        if kind == "created": intent.created(value, 1.5, 101.0)
        if kind == "refused": intent.refused(value, 101.0)
        if kind == "torn":
            import os
            os.write(intent.fd, value.encode())
    print("held", flush=True)
    sys.stdin.read()
"""


def hold_elsewhere(root: Path, *steps: str) -> subprocess.Popen[bytes]:
    """Start a process that holds the intent until it is killed or its stdin ends."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(root), NAME, *steps], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdin and process.stdout
    process.stdin.close()
    process.stdout.close()


def path_of(root: Path) -> Path:
    intents.make_folder(root, LEASE)
    return root / LEASE / NAME


def read(root: Path) -> intents.IntentRecord:
    return intents.settle(root / LEASE / NAME, lambda seconds: pytest.fail("nobody holds it"))


@pytest.mark.parametrize(
    ("steps", "resolved", "ids"),
    [
        ((), True, ()),
        (("start=50",), False, ()),
        (("start=50", "created=p1"), True, ("p1",)),
        (("start=50", "refused=no stock"), True, ()),
        (("start=50", "refused=no stock", "start=60"), False, ()),
        (("start=50", 'torn={"event": "outcome", "id": "p1"'), False, ()),
        (("start=50", "created=p1", 'torn={"event": "sta'), True, ("p1",)),
    ],
)
def test_a_holder_killed_at_each_point_leaves_exactly_what_it_had_synced(
    tmp_path: Path, steps: tuple[str, ...], resolved: bool, ids: tuple[str, ...]
) -> None:
    path_of(tmp_path)
    kill(hold_elsewhere(tmp_path, *steps))
    record = read(tmp_path)
    assert (record.resolved, record.ids) == (resolved, ids)


def test_a_line_after_a_torn_one_is_read(tmp_path: Path) -> None:
    path_of(tmp_path)
    kill(hold_elsewhere(tmp_path, "start=50", 'torn={"event": "outc'))
    with intents.hold(tmp_path, NAME, 0.0, lambda s: None) as intent:
        intent.created("p7", None, 60.0)
        assert intent.record() == intents.IntentRecord(50.0, True, 60.0, ("p7",))


def test_a_living_holder_in_another_process_is_waited_for_and_a_killed_one_is_not(tmp_path: Path) -> None:
    path_of(tmp_path)
    process = hold_elsewhere(tmp_path, "start=50")
    waits: list[float] = []
    told: list[bool] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            kill(process)

    with intents.hold(tmp_path, NAME, 0.0, sleep, lambda: told.append(True)) as intent:
        assert not intent.record().resolved
    assert len(waits) >= 3
    assert told == [True]


def test_two_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    path_of(tmp_path)
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with intents.hold(tmp_path, NAME, 0.0, lambda s: time.sleep(0.005)):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with intents.hold(tmp_path, NAME, 0.0, lambda s: None):
        inside.set()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_child_that_inherited_the_descriptor_does_not_keep_the_lock(tmp_path: Path) -> None:
    path_of(tmp_path)
    with intents.hold(tmp_path, NAME, 0.0, lambda s: None) as intent:
        copy = os.dup(intent.fd)
    try:
        with (tmp_path / LEASE / NAME).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(copy)


def test_settle_waits_until_the_holder_is_done_and_reads_its_outcome(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    process = hold_elsewhere(tmp_path, "start=50", "created=p1")

    def sleep(seconds: float) -> None:
        assert process.stdin and process.stdout
        process.stdin.close()
        process.wait()
        process.stdout.close()

    assert intents.settle(path, sleep).ids == ("p1",)


def test_an_intent_without_the_lease_s_folder_begins_as_if_a_request_had_just_left(tmp_path: Path) -> None:
    with intents.hold(tmp_path, NAME, 777.0, lambda s: None) as intent:
        record = intent.record()
    assert (record.start, record.resolved) == (777.0, False)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_intent_in_the_lease_s_folder_begins_empty(tmp_path: Path) -> None:
    intents.make_folder(tmp_path, LEASE)
    with intents.hold(tmp_path, NAME, 777.0, lambda s: None) as intent:
        assert intent.record() == intents.IntentRecord(None, True, None, ())


def test_a_lock_on_a_removed_file_is_taken_again_on_the_new_one(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    process = hold_elsewhere(tmp_path)

    def sleep(seconds: float) -> None:
        # The lease's deletion removes the folder between our open and our lock.
        intents.remove_folder(tmp_path, LEASE)
        intents.make_folder(tmp_path, LEASE)
        kill(process)

    with intents.hold(tmp_path, NAME, 0.0, sleep) as intent:
        intent.start("offer", 5.0)
    assert read(tmp_path).start == 5.0
    assert path.exists()


def test_a_file_removed_between_open_and_lock_is_not_taken_for_the_intent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path_of(tmp_path)
    real, once = fcntl.flock, [True]

    def flock(fd: int, how: int) -> None:
        if once and once.pop():
            intents.remove_folder(tmp_path, LEASE)
            intents.make_folder(tmp_path, LEASE)
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with intents.hold(tmp_path, NAME, 0.0, lambda s: None) as intent:
        intent.start("offer", 5.0)
    assert read(tmp_path).start == 5.0


def test_each_entry_is_synced_before_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path_of(tmp_path)
    synced: list[bytes] = []
    real = os.fsync

    def noted(fd: int) -> None:
        real(fd)
        synced.append(path.read_bytes() if path.exists() else b"")

    monkeypatch.setattr(os, "fsync", noted)
    with intents.hold(tmp_path, NAME, 0.0, lambda s: None) as intent:
        intent.start("offer", 5.0)
        assert synced[-1] == path.read_bytes()
        intent.created("p1", None, 6.0)
        assert synced[-1] == path.read_bytes()


def test_the_intents_of_a_fence_are_those_whose_names_carry_it(tmp_path: Path) -> None:
    other = "2" * 10
    for lease, name in ((LEASE, NAME), (other, f"ty-{FENCE}-{other}-pod-0123abcd"), ("3" * 10, f"ty-{'0' * 10}-{'3' * 10}-pod-0123abcd")):
        intents.make_folder(tmp_path, lease)
        (tmp_path / lease / name).touch()
    intents.close(tmp_path, FENCE, 1.0)
    assert [path.parent.name for path in intents.of_fence(tmp_path, FENCE)] == [LEASE, other]


def test_closing_is_seen_by_every_process_and_stays(tmp_path: Path) -> None:
    assert not intents.is_closed(tmp_path, FENCE)
    intents.close(tmp_path, FENCE, 1.0)
    intents.close(tmp_path, FENCE, 2.0)
    script = "import sys, pathlib; from trainyard.leases import intents; print(intents.is_closed(pathlib.Path(sys.argv[1]), sys.argv[2]))"
    assert subprocess.check_output([sys.executable, "-c", script, str(tmp_path), FENCE]) == b"True\n"
    assert not intents.is_closed(tmp_path, LEASE)


def test_a_name_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a pod name"), intents.hold(tmp_path, "../escape", 0.0, lambda s: None):
        pass


def test_every_accepted_pod_is_on_record_from_its_request_on_with_price_and_end(tmp_path: Path) -> None:
    intents.make_folder(tmp_path, LEASE)
    with intents.hold(tmp_path, NAME, 0, lambda s: None) as intent:
        intent.start("A", 10.0)
        intent.created("p1", 5.0, 12.0)
        intent.ended("p1", 14.0)
        intent.start("B", 20.0)
        intent.refused("taken", 21.0)
        intent.start("C", 30.0)
        intent.created("p2", None, 33.0)
        intent.adopted("p2", None, 40.0)
        assert intent.record().resolved
    found = intents.accepted(tmp_path, LEASE)
    assert [(pod.id, pod.at, pod.offer, pod.price, pod.ended) for pod in found] == [
        ("p1", 10.0, "A", 5.0, 14.0),
        ("p2", 30.0, "C", None, None),
    ]
    assert intents.accepted(tmp_path, "9" * 10) == []


@pytest.mark.parametrize(
    ("steps", "there"),
    [
        ((), 0),
        (("start=1",), 1),
        (("start=1", "refused=taken"), 0),
        (("start=1", "created=p1"), 1),
        (("start=1", "refused=no", "start=2"), 1),
    ],
)
def test_a_pod_may_be_there_from_its_request_on_until_it_was_refused(tmp_path: Path, steps: tuple[str, ...], there: int) -> None:
    intents.make_folder(tmp_path, LEASE)
    kill(hold_elsewhere(tmp_path, *steps))
    assert intents.asked(tmp_path, LEASE) == there


def test_a_pod_that_was_ended_again_is_not_there(tmp_path: Path) -> None:
    intents.make_folder(tmp_path, LEASE)
    with intents.hold(tmp_path, NAME, 0, lambda s: None) as intent:
        intent.start("A", 10.0)
        intent.created("p1", 5.0, 12.0)
        assert intents.asked(tmp_path, LEASE) == 1
        intent.ended("p1", 14.0)
    assert intents.asked(tmp_path, LEASE) == 0
