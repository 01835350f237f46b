"""Following survives every kind of bad link: each byte once, in order, and the true verdict."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.remote.proxy import Proxy
from trainyard.errors import HostKeyChanged, Unreachable
from trainyard.remote import jobs
from trainyard.remote.follow import Tail, _Reader, follow
from trainyard.remote.keys import host_key
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import Address, LocalTransport, Transport, connect

# Binary noise, carriage returns and half lines, a good deal of it, spread over some time.
TALKER = """\
i=0
while [ $i -lt 40 ]; do
  head -c 5000 /dev/urandom; printf 'step %d\\r' $i; echo "{\\"step\\": $i}" >>"$METRICS"
  i=$((i + 1)); sleep 0.02
done
exit 42
"""


def dial(address: Address, silence: float = 15.0) -> Reconnecting:
    return Reconnecting(lambda: connect(address, timeout=5, silence=silence), str(address))


def test_several_files_arrive_whole_with_the_verdict(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), TALKER, {"METRICS": pod / "metrics.jsonl"})
    log, metrics = bytearray(), bytearray()
    tails = [Tail("log", log.extend), Tail(str(pod / "metrics.jsonl"), metrics.extend)]
    state = follow(transport, str(pod / "job"), tails)
    assert jobs.verdict(state) == "exited 42"
    assert log == (pod / "job/log").read_bytes() and len(log) > 200_000
    assert metrics == (pod / "metrics.jsonl").read_bytes() and metrics.count(b"\n") == 40
    assert tails[0].offset == len(log)


def test_cuts_in_the_middle_keep_the_log_byte_identical_and_the_exit_code_true(proxy: Proxy, pod: Path) -> None:
    jobs.start(LocalTransport(), str(pod / "job"), TALKER, {"METRICS": pod / "metrics.jsonl"})
    log, metrics, links = bytearray(), bytearray(), list[bool]()

    def take(data: bytes) -> None:
        log.extend(data)
        for mark in (20_000, 60_000, 90_000, 150_000):
            if len(log) - len(data) < mark <= len(log):
                proxy.cut()

    with dial(proxy.address) as t:
        tails = [Tail("log", take), Tail(str(pod / "metrics.jsonl"), metrics.extend)]
        state = follow(t, str(pod / "job"), tails, on_link=lambda lost: links.append(lost is None))
    assert state.exit_code == 42
    assert hashlib.sha256(log).digest() == hashlib.sha256((pod / "job/log").read_bytes()).digest()
    assert metrics == (pod / "metrics.jsonl").read_bytes()
    assert proxy.accepted >= 4 and links and links == [False, True] * (len(links) // 2)


def test_a_link_that_is_down_for_the_end_of_the_job_still_brings_the_rest(proxy: Proxy, pod: Path) -> None:
    jobs.start(LocalTransport(), str(pod / "job"), TALKER, {"METRICS": pod / "metrics.jsonl"})
    log, ticks = bytearray(), 0

    def take(data: bytes) -> None:
        if not log:
            proxy.refuse(True)
            proxy.cut()
        log.extend(data)

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if jobs.status(LocalTransport(), str(pod / "job")).ended:
            proxy.refuse(False)

    with dial(proxy.address) as t:
        state = follow(t, str(pod / "job"), [Tail("log", take)], tick=tick)
    assert state.exit_code == 42 and log == (pod / "job/log").read_bytes() and ticks


def test_a_second_follower_can_begin_at_a_later_byte(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "printf 0123456789")
    rest = bytearray()
    assert follow(transport, str(pod / "job"), [Tail("log", rest.extend, 4)]).exit_code == 0
    assert rest == b"456789"


def test_a_file_that_never_appears_does_not_hold_up_the_end(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "sleep 0.3; echo end")
    log = bytearray()
    state = follow(transport, str(pod / "job"), [Tail("log", log.extend), Tail(str(pod / "none"), log.extend)])
    assert state.exit_code == 0 and log == b"end\n"


def test_a_black_hole_is_noticed_and_followed_again_when_it_ends(proxy: Proxy, pod: Path) -> None:
    jobs.start(LocalTransport(), str(pod / "job"), f"echo begin; while [ ! -e {pod}/go ]; do sleep 0.05; done; echo end; exit 5")
    log, lost_at = bytearray(), list[float]()
    begun = time.monotonic()

    def take(data: bytes) -> None:
        if not log:
            proxy.swallow(True)
        log.extend(data)

    def link(lost: str | None) -> None:
        if lost is not None:
            lost_at.append(time.monotonic() - begun)
            (pod / "go").touch()
            proxy.cut()
            proxy.swallow(False)

    with dial(proxy.address, silence=1.0) as t:
        state = follow(t, str(pod / "job"), [Tail("log", take)], on_link=link)
    assert state.exit_code == 5 and log == b"begin\nend\n"
    assert lost_at and lost_at[0] < 6


def test_patience_ends_and_the_job_is_left_alone(proxy: Proxy, pod: Path) -> None:
    jobs.start(LocalTransport(), str(pod / "job"), f"echo begin; while [ ! -e {pod}/go ]; do sleep 0.05; done")

    def take(data: bytes) -> None:
        proxy.refuse(True)
        proxy.cut()

    with dial(proxy.address) as t, pytest.raises(Unreachable):
        follow(t, str(pod / "job"), [Tail("log", take)], patience=0.5)
    assert jobs.status(LocalTransport(), str(pod / "job")).state == "running"
    (pod / "go").touch()


def test_another_host_key_after_a_cut_ends_the_following_at_once(proxy: Proxy, pod: Path) -> None:
    jobs.start(LocalTransport(), str(pod / "job"), f"echo begin; while [ ! -e {pod}/go ]; do sleep 0.05; done")
    keys = [proxy.address.host_key, host_key(b"x" * 32, "an impostor").public]

    def redial() -> Transport:
        address = proxy.address
        return connect(Address(address.host, address.port, address.user, keys.pop(0), address.key_file))

    with Reconnecting(redial) as t, pytest.raises(HostKeyChanged):
        follow(t, str(pod / "job"), [Tail("log", lambda data: proxy.cut())])
    (pod / "go").touch()


def test_an_error_of_the_sink_reaches_the_caller(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "echo begin; sleep 1")

    def full(data: bytes) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        follow(transport, str(pod / "job"), [Tail("log", full)])


def test_following_a_lost_job_says_lost(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "echo begin; kill -s KILL $PPID $$")
    log = bytearray()
    state = follow(transport, str(pod / "job"), [Tail("log", log.extend)])
    assert state.state == "lost" and log == b"begin\n"


def test_following_what_was_never_started_says_absent(transport: Transport, pod: Path) -> None:
    assert follow(transport, str(pod / "job"), [Tail("log", print)]).state == "absent"


def test_following_ends_when_the_folder_of_a_job_is_removed_under_it(pod: Path) -> None:
    job, pids = pod / "job", list[int]()
    jobs.start(LocalTransport(), str(job), "echo begin; exec sleep 60")

    def sweep(_: bytes) -> None:
        pids.append(int((job / "pid").read_text()))
        while job.exists():  # what watches the job may write a file there meanwhile
            shutil.rmtree(job, ignore_errors=True)

    tails = [Tail("log", sweep), Tail(str(pod / "metrics.jsonl"), print)]
    assert follow(LocalTransport(), str(job), tails).state == "absent", "one of them waits for a file that never comes"
    os.killpg(pids[0], signal.SIGKILL)


def test_a_state_that_cannot_be_read_for_a_while_is_waited_out_like_a_lost_link(pod: Path) -> None:
    t, job = LocalTransport(), pod / "job"
    jobs.start(t, str(job), "echo begin; exit 4")
    while not jobs.status(t, str(job)).ended:
        time.sleep(0.02)
    (job / "exit").rename(job / "kept")
    (job / "exit").write_text("")
    log, links = bytearray(), list[str | None]()

    def on_link(lost: str | None) -> None:
        links.append(lost)
        if lost:
            (job / "kept").rename(job / "exit")

    state = follow(t, str(job), [Tail("log", log.extend)], on_link=on_link, patience=20)
    assert (state.state, state.exit_code, bytes(log)) == ("exited", 4, b"begin\n")
    assert len(links) == 2 and "holds no exit code" in str(links[0]) and links[1] is None
    (job / "exit").write_text("")
    with pytest.raises(Unreachable, match="the state of the job is unknown"):
        follow(t, str(job), [Tail("log", log.extend)], patience=0.1)


def test_a_reader_that_dies_before_its_first_line_is_noticed(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.start(LocalTransport(), str(pod / "job"), "sleep 60")
    monkeypatch.setattr(_Reader, "run", lambda reader: None)
    with pytest.raises(RuntimeError, match="has died without a word"):
        follow(LocalTransport(), str(pod / "job"), [Tail("log", print)])
    jobs.stop(LocalTransport(), str(pod / "job"), grace=1.0)
