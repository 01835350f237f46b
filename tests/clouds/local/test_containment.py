"""Whatever a program in a pod does, it is gone when the pod is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.clouds.local import pods
from trainyard.clouds.local import LocalCloud, ending, launch, limits, registry, request
from trainyard.clouds.local import cloud as module
from trainyard.errors import CloudRefused
from trainyard.remote import jobs
from trainyard.remote.protocol import Address, quote
from trainyard.remote.transport import connect

BOUND = 60.0


def holders(cloud: LocalCloud, name: str = pods.NAME) -> dict[str, int]:
    """Return the pids of a pod's supervisor and subreaper by the kernel's word."""
    folder = cloud.root / "pods" / name
    return {lock: registry.holder(folder / lock) for lock in ("alive", "subreaper")}


def test_terminate_leaves_no_survivor(cloud: LocalCloud, token: str) -> None:
    pod = pods.tortured(cloud, token)
    cloud.terminate(pod.id)

    assert pods.living(token) == []
    assert not pods.is_open(pod)
    assert pods.leftovers(cloud) == []
    assert cloud.get(pod.id) is None
    assert cloud.ended(pod.id)["reason"] == "terminated"  # type: ignore[index]


def test_the_deadline_leaves_no_survivor_and_needs_nobody(cloud: LocalCloud, token: str) -> None:
    pod = pods.tortured(cloud, token)
    cloud.change_markers(pod.id, None, datetime.now(UTC) + timedelta(seconds=0.3))
    pods.wait_for(lambda: not pods.living(token), "the deadline", BOUND)
    pods.wait_for(lambda: not pods.leftovers(cloud), "the removal of the folder", BOUND)

    assert not pods.is_open(pod)
    assert cloud.ended(pod.id)["reason"] == "end of the lease"  # type: ignore[index]


def test_the_end_given_at_create_is_kept_to_the_second_and_never_early(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec(end=1.5))
    pods.wait_for(lambda: not pods.leftovers(cloud), "the deadline", BOUND)

    record = cloud.ended(pod.id)
    assert record is not None and record["reason"] == "end of the lease"
    assert 0 <= record["ended"] - record["end"] < request.TICK


def test_a_caller_that_is_held_up_between_two_clocks_cuts_no_lease_short(monkeypatch: pytest.MonkeyPatch) -> None:
    end = datetime.now(UTC) + timedelta(seconds=60)
    true_end = time.clock_gettime(time.CLOCK_BOOTTIME) + end.timestamp() - time.time()
    held_up, wall, boot = [0.0], time.time, time.clock_gettime

    def later(reading: float) -> float:
        held_up[0] += 0.3
        return reading + held_up[0]

    monkeypatch.setattr(time, "time", lambda: later(wall()))
    monkeypatch.setattr(time, "clock_gettime", lambda clock: later(boot(clock)))
    kept = request.times(None, end)["end_boottime"]
    assert kept is not None and kept > true_end - 0.05


def test_a_change_while_the_pod_starts_does_not_kill_it(cloud: LocalCloud) -> None:
    done = threading.Event()

    def nag() -> None:
        while not done.is_set():
            pid = registry.holder(cloud.root / "pods" / pods.NAME / "alive")
            if pid > 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGHUP)

    for _ in range(5):
        done.clear()
        thread = threading.Thread(target=nag)
        thread.start()
        try:
            pod = pods.create(cloud, pods.spec())
        finally:
            done.set()
            thread.join()
        assert cloud.get(pod.id) is not None
        cloud.terminate(pod.id)


def test_a_pod_can_end_itself_and_only_itself(cloud: LocalCloud, token: str) -> None:
    neighbour = pods.create(cloud, pods.spec("neighbour"))
    pod = pods.tortured(cloud, token)
    with pods.ssh(pod) as client:
        pods.say(client, "end result is committed")
    pods.wait_for(lambda: not pods.living(token), "the end", BOUND)
    pods.wait_for(lambda: cloud.ended(pod.id), "the record", BOUND)

    assert cloud.ended(pod.id)["reason"] == "result is committed"  # type: ignore[index]
    assert [row.id for row in cloud.list()] == [neighbour.id]


@pytest.mark.parametrize("victims", [("alive",), ("subreaper",), ("alive", "subreaper")], ids="+".join)
def test_a_killed_supervisor_takes_the_pod_with_it(cloud: LocalCloud, isolation: str, token: str, victims: tuple[str, ...]) -> None:
    if isolation == "namespace" and victims != ("alive",):
        pytest.skip("this isolation level has no subreaper")
    pod = pods.tortured(cloud, token)
    pids = holders(cloud)
    for lock in victims:
        os.kill(pids[lock], signal.SIGKILL)
    if len(victims) == 1:
        pods.wait_for(lambda: not pods.living(token), "the kernel or the other one of the two", BOUND)
    # With both killed at once nothing holds the tree together: whoever lists finds it by its marker.
    pods.wait_for(lambda: cloud.list() == [], "the list", BOUND)

    assert pods.living(token) == []
    pods.wait_for(lambda: pods.leftovers(cloud) == [], "the removal of the files", BOUND)
    assert "killed" in cloud.ended(pod.id)["reason"]  # type: ignore[index]


def test_a_stopped_subreaper_and_supervisor_do_not_hold_up_terminate(
    cloud: LocalCloud, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "SUBREAPER_PATIENCE", 3.0)
    pod = pods.tortured(cloud, token)
    for pid in filter(None, holders(cloud).values()):
        os.kill(pid, signal.SIGSTOP)
    cloud.terminate(pod.id)

    assert pods.living(token) == []


def test_a_pod_whose_supervisor_hangs_is_ended_by_whoever_lists_it(cloud: LocalCloud, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OVERDUE", 0.2)
    pod = pods.tortured(cloud, token)
    os.kill(holders(cloud)["alive"], signal.SIGSTOP)
    cloud.change_markers(pod.id, None, datetime.now(UTC) + timedelta(seconds=0.1))
    pods.wait_for(lambda: cloud.list() == [], "the end from outside", BOUND)

    assert pods.living(token) == []
    assert cloud.ended(pod.id)["reason"] == "end of the lease, kept from outside"  # type: ignore[index]


HOPPER = """
import os, sys, time
import sandbox
sandbox.become_subreaper()
reading, writing = os.pipe()
if not os.fork():
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        if os.fork():
            os._exit(0)
    os.write(writing, b"outran")
    os._exit(0)
os.close(writing)
time.sleep(0.05)
sandbox.kill_descendants()
sys.stdout.write(os.read(reading, 10).decode())
"""


def test_a_program_that_is_another_process_each_moment_cannot_outrun_the_kill() -> None:
    command = [*launch.python(), "-c", f"import sys;sys.path.insert(0,{str(launch._HERE)!r})\n{HOPPER}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_a_process_in_the_middle_of_an_exec_is_seen_by_these_tests(token: str) -> None:
    chain = 'n=$2; [ "$n" -gt 0 ] && exec sh -c "$0" "$0" "$1" $((n - 1)); read line'
    process = subprocess.Popen(["sh", "-c", chain, chain, token, "40"], stdin=subprocess.PIPE)
    try:
        line = Path(f"/proc/{process.pid}/cmdline")
        while not line.read_bytes().endswith(b"\x000\x00"):
            assert pods._says(str(process.pid), token.encode())
    finally:
        process.communicate()


@contextlib.contextmanager
def unstartable(path: Path) -> Iterator[None]:
    """Hold up whoever executes a file, as a share does that hangs: the kernel asks us for leave, which never comes."""
    libc, cloexec, by_content, mark_add, open_exec_perm = ctypes.CDLL(None), 1, 4, 1, ctypes.c_uint64(0x40000)
    fd = libc.fanotify_init(by_content | cloexec, os.O_RDONLY)
    if fd < 0 or libc.fanotify_mark(fd, mark_add, open_exec_perm, -100, bytes(path)):
        pytest.skip("only root of a kernel with fanotify can hold up an exec: a program that hangs in it is NOT tested here")
    try:
        yield
    finally:
        os.close(fd)


def test_a_program_that_hangs_before_it_has_begun_does_not_hold_up_the_end(cloud: LocalCloud) -> None:
    cloud.registry.make()
    program = cloud.root / "envs" / "hangs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with unstartable(program):
        pod = pods.create(cloud, pods.spec(end=1.0, boot=(str(program),)))
        pods.wait_for(lambda: not pods.leftovers(cloud), "the deadline")

    assert cloud.ended(pod.id)["reason"] == "end of the lease"  # type: ignore[index]


def test_an_end_that_comes_while_it_is_set_is_kept_and_no_error(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "TICK", 0.05)

    def first(act: Callable[[], object]) -> None:
        """Let something happen between the change of the record and the signal that tells of it."""

        def late(path: Path, sign: int) -> int:
            monkeypatch.setattr(ending, "signal_holder", true_signal)
            act()
            return true_signal(path, sign)

        true_signal = ending.signal_holder
        monkeypatch.setattr(ending, "signal_holder", late)

    pod = pods.create(cloud, pods.spec())
    first(lambda: pods.wait_for(lambda: not pods.leftovers(cloud), "the pod to see its new end by itself", BOUND))
    cloud.change_markers(pod.id, None, datetime.now(UTC) + timedelta(seconds=0.05))
    assert cloud.ended(pod.id)["reason"] == "end of the lease"  # type: ignore[index]

    again = pods.create(cloud, pods.spec())
    first(lambda: cloud.terminate(again.id))
    with pytest.raises(CloudRefused, match="has ended"):
        cloud.change_markers(again.id, None, datetime.now(UTC) + timedelta(hours=1))


def test_a_pod_whose_record_is_removed_ends_itself(cloud: LocalCloud, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "TICK", 0.3)
    pods.tortured(cloud, token)
    os.rename(cloud.root / "pods" / pods.NAME, cloud.root / "elsewhere")
    pods.wait_for(lambda: not pods.living(token), "the next look at the record", BOUND)


def test_programs_in_a_pod_cannot_end_its_first_process(cloud: LocalCloud, isolation: str) -> None:
    if isolation == "process":
        pytest.skip("programs of the same user can; the subreaper then ends the pod (tested above)")
    pod = pods.create(cloud, pods.spec())
    with pods.ssh(pod) as client:
        for sign in ("HUP", "INT", "QUIT", "TERM", "USR1", "STOP", "KILL", "PIPE", "ALRM"):
            pods.run(client, f"kill -{sign} 1")
        assert pods.run(client, "echo still here") == (0, "still here\n")
    assert pods.answers(pod).startswith(b"SSH-2.0")


def test_a_changed_end_is_kept_at_once_and_a_pod_cannot_change_it(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec(end=60))
    stop, end = datetime.now(UTC) + timedelta(seconds=30), datetime.now(UTC) + timedelta(seconds=1.5)
    cloud.change_markers(pod.id, stop, end)
    seen = cloud.get(pod.id)
    assert seen is not None and (seen.stop, seen.end) == (stop, end)
    pods.wait_for(lambda: cloud.get(pod.id) is None, "the new end", 30)


def test_a_later_end_is_kept_too(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec(end=3.0))
    cloud.change_markers(pod.id, None, datetime.now(UTC) + timedelta(seconds=60))
    first_end = pod.end
    assert first_end is not None
    pods.wait_for(lambda: datetime.now(UTC) > first_end + timedelta(seconds=0.3), "the old end")
    assert pods.answers(pod).startswith(b"SSH-2.0")


GLUTTON = """
import time
taken = []
for _ in range(50):
    taken.append(bytearray(b"x" * 10_000_000))
    time.sleep(0.02)
time.sleep(60)
"""


def test_a_program_that_takes_too_much_memory_dies_alone_and_its_job_says_why(
    cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_LOCAL_MEMORY", "0.2")
    pod = pods.create(cloud, pods.spec())
    assert pod.ssh is not None and pod.host_key is not None
    key, job = tmp_path / "key", f"{pod.workspace}/job"
    key.touch(0o600)
    key.write_text(pods.keys("user")[0])
    with connect(Address(pod.ssh.host, pod.ssh.port, pod.ssh.user, host_key=pod.host_key, key_file=key)) as transport:
        jobs.start(transport, job, f"python3 -c {quote(GLUTTON)}")
        pods.wait_for(lambda: jobs.status(transport, job).ended, "the limit", BOUND)

        assert jobs.status(transport, job).exit_code == 137
        assert jobs.OUT_OF_MEMORY in transport.exec(f"cat {job}/log").text
    assert cloud.list() == [pod]
    groups = [
        Path(place, limits._name(registry.read(cloud.root / "pods" / pod.id, "state.json") or {})) for place, _, _ in limits._places()
    ]
    cloud.terminate(pod.id)
    assert not any(group.exists() for group in groups)
