"""Booting: an SSH greeting is waited for under one deadline per phase, and the phase that failed is named."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.leases.bench import FENCE, LEASE, LeaseBench
from tests.remote.sshd import Server
from tests.remote.sshd import start as start_sshd
from trainyard.clock import format_time
from trainyard.clouds.protocol import PodInfo, SshAddress
from trainyard.errors import BootFailed
from trainyard.leases import boot
from trainyard.leases.boot import BootLimits, greets, image_minutes
from trainyard.leases.world import Interrupted
from trainyard.remote import hostkey
from trainyard.remote.hostkey import shows
from trainyard.remote.keys import host_key


@contextmanager
def server(greeting: bytes) -> Iterator[int]:
    """Listen on a loopback port and greet whoever connects."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                for piece in (greeting[:2], greeting[2:]):
                    connection.sendall(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def starting(bench: LeaseBench, **more: object) -> str:
    return bench.cloud.add(f"ty-{FENCE}-{LEASE}-pod-00000000", FENCE, LEASE, **{"status": "starting", **more})


def wait(bench: LeaseBench, pod_id: str, ssh: float = 2) -> PodInfo:
    return boot.wait(bench.world, bench.cloud, pod_id, BootLimits(accepted=1, image=5, ssh=ssh))


def port_of(info: PodInfo) -> int | None:
    return info.ssh.port if info.ssh else None


def test_an_address_counts_when_an_ssh_server_greets_there(bench: LeaseBench) -> None:
    with server(b"SSH-2.0-OpenSSH\r\n") as port:
        pod_id = starting(bench)
        bench.during += [lambda: None, lambda: bench.cloud.change(pod_id, status="running", host=["127.0.0.1", port, "root"])]
        assert wait(bench, pod_id).ssh == SshAddress("127.0.0.1", port, "root")


def test_a_port_mapping_without_server_behind_it_does_not_count_and_a_fresher_one_is_followed(bench: LeaseBench) -> None:
    with server(b"HTTP/1.1 400\r\n") as wrong, server(b"SSH-2.0-x\r\n") as right:
        pod_id = starting(bench, status="running", host=["127.0.0.1", wrong, "root"])
        bench.during += [lambda: None, lambda: None, lambda: bench.cloud.change(pod_id, host=["127.0.0.1", right, "root"])]
        assert port_of(wait(bench, pod_id)) == right


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_sshd(tmp_path_factory.mktemp("sshd"))
    yield running
    running.stop()


def test_another_host_key_on_a_recycled_address_is_not_ready_yet_and_is_asked_again(bench: LeaseBench, sshd: Server) -> None:
    host = [sshd.address.host, sshd.address.port, "root"]
    pod_id = starting(bench, status="running", host=host, shows=host_key(b"another seed, another key, no luck", "pod").public)
    bench.during += [lambda: None, lambda: bench.cloud.change(pod_id, shows=sshd.address.host_key)]
    assert port_of(wait(bench, pod_id)) == sshd.address.port
    assert len(bench.slept) >= 2


def test_an_address_that_stays_another_machine_s_fails_the_boot_and_blames_no_host(bench: LeaseBench, sshd: Server) -> None:
    wrong = host_key(b"another seed, another key, no luck", "pod").public
    pod_id = starting(bench, status="running", host=[sshd.address.host, sshd.address.port, "root"], shows=wrong)
    with pytest.raises(BootFailed, match="shows another host key than the pod's") as failed:
        wait(bench, pod_id, ssh=0.02)
    assert not failed.value.facts["hosts_fault"]


def test_what_greets_and_then_says_nothing_shows_no_key() -> None:
    with server(b"SSH-2.0-x\r\n") as port:
        assert shows("127.0.0.1", port, host_key(b"x" * 32, "pod").public, timeout=2) is None


@pytest.mark.parametrize("why", ["its logs tell of the image", "the cloud is not reached", "a server that does not greet"])
def test_a_host_that_is_not_to_blame_is_not_blamed(bench: LeaseBench, why: str) -> None:
    pod_id = starting(bench)
    if why == "its logs tell of the image":
        bench.cloud.boot_problems[pod_id] = "the image cannot be pulled"
    elif why == "the cloud is not reached":
        bench.cloud.set_faults(get="error")
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        bench.cloud.change(pod_id, status="running", host=["127.0.0.1", port, "root"])
    with pytest.raises(BootFailed) as failed:
        wait(bench, pod_id)
    assert not failed.value.facts["hosts_fault"]


def test_a_closed_port_does_not_greet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not greets(SshAddress("127.0.0.1", port))


@pytest.mark.parametrize(
    ("state", "phase", "minutes"),
    [({"status": "unknown"}, "accepted", 1), ({"status": "starting"}, "image", 5), ({"status": "running"}, "ssh", 2)],
)
def test_each_phase_has_its_own_deadline_and_is_named(bench: LeaseBench, state: dict[str, object], phase: str, minutes: int) -> None:
    began, pod_id = bench.at[0], starting(bench, **state)
    with pytest.raises(BootFailed, match=f"not past phase '{phase}' after {minutes} minutes") as failed:
        wait(bench, pod_id)
    assert minutes * 60 <= bench.at[0] - began < minutes * 60 + 10
    assert bench.cloud.alive() == [pod_id], "a boot failure never ends the pod"
    assert failed.value.facts == {"pod": pod_id, "phase": phase, "hosts_fault": True, "lease_over": False}


def test_an_image_gets_ten_minutes_and_more_when_it_is_large() -> None:
    assert [image_minutes(size) for size in (None, 8, 16, 31)] == [10, 10, 10, 17.5]
    assert BootLimits(accepted=1, image=None, ssh=2, image_gb=31).minutes()["image"] == 17.5


def test_the_deadline_of_a_phase_counts_from_its_beginning(bench: LeaseBench) -> None:
    began, pod_id = bench.at[0], starting(bench)

    def run_after_four_minutes() -> None:
        if bench.at[0] - began > 240:
            bench.cloud.change(pod_id, status="running")
        else:
            bench.during.append(run_after_four_minutes)

    bench.during.append(run_after_four_minutes)
    with pytest.raises(BootFailed, match="phase 'ssh' after 2 minutes"):
        wait(bench, pod_id)
    assert bench.at[0] - began >= 240 + 120


@pytest.mark.parametrize("status", ["exited", "error", "terminating"])
def test_a_pod_that_ended_fails_at_once_with_the_cloud_s_word(bench: LeaseBench, status: str) -> None:
    pod_id = starting(bench)
    bench.during += [lambda: None, lambda: bench.cloud.change(pod_id, status=status, leaves=bench.at[0] + 99)]
    with pytest.raises(BootFailed, match=status.upper()) as failed:
        wait(bench, pod_id)
    assert sum(bench.slept) < 5
    assert failed.value.facts["hosts_fault"] == (status == "error"), "only a machine that may be to blame is remembered"


def test_one_untrue_404_costs_no_boot(bench: LeaseBench) -> None:
    with server(b"SSH-2.0-x\r\n") as port:
        pod_id = starting(bench)
        real, lies = bench.cloud.get, [True]
        bench.during += [
            lambda: bench.at.__setitem__(0, bench.at[0] + 100),
            lambda: setattr(bench.cloud, "get", lambda id: None if lies and lies.pop() else real(id)),
            lambda: bench.cloud.change(pod_id, status="running", host=["127.0.0.1", port, "root"]),
        ]
        assert port_of(wait(bench, pod_id)) == port and not lies


def test_a_pod_that_was_seen_and_is_gone_fails_at_once(bench: LeaseBench) -> None:
    pod_id = starting(bench)
    bench.during += [lambda: None, lambda: bench.cloud.terminate(pod_id)]
    with pytest.raises(BootFailed, match="was STARTING, now the cloud says that there is no such pod"):
        wait(bench, pod_id)
    assert sum(bench.slept) < 5


def test_a_pod_that_the_cloud_does_not_show_yet_is_waited_for_as_long_as_its_listings_may_lag(bench: LeaseBench) -> None:
    began = bench.at[0]
    with pytest.raises(BootFailed, match="there is no such pod") as caught:
        wait(bench, "p77")
    assert bench.cloud.capabilities.settle < bench.at[0] - began < bench.cloud.capabilities.settle + 10
    assert "refresh" in str(caught.value)


def test_a_pod_is_not_waited_for_beyond_its_lease_s_end(bench: LeaseBench) -> None:
    pod_id = starting(bench, status="accepted", end=format_time(datetime.fromtimestamp(bench.at[0] + 20, UTC)))
    with pytest.raises(BootFailed, match=r"phase 'accepted' \(ACCEPTED; its lease is over\)") as failed:
        wait(bench, pod_id)
    assert 20 <= sum(bench.slept) < 25
    assert failed.value.facts["lease_over"] and not failed.value.facts["hosts_fault"]


def test_an_api_that_stutters_is_no_boot_failure(bench: LeaseBench) -> None:
    with server(b"SSH-2.0-x\r\n") as port:
        pod_id = starting(bench, status="running", host=["127.0.0.1", port, "root"])
        bench.cloud.set_faults(get=["503"] * 5)
        assert port_of(wait(bench, pod_id)) == port


def test_cancel_ends_the_wait(bench: LeaseBench) -> None:
    pod_id = starting(bench)
    bench.during.append(bench.world.control.cancel)
    with pytest.raises(Interrupted):
        wait(bench, pod_id)


def test_a_command_that_was_killed_is_not_waited_for_on_its_behalf(bench: LeaseBench) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    bench.world = replace(bench.world, env={"TRAINYARD_CONTROLLER": str(ended.pid)})
    with pytest.raises(Interrupted, match="ended before the pod had an address"):
        wait(bench, starting(bench))


def test_a_boot_that_the_clouds_logs_call_hopeless_is_not_waited_for(bench: LeaseBench) -> None:
    began, pod_id = bench.at[0], starting(bench)
    bench.cloud.boot_problems[pod_id] = "the image cannot be pulled: manifest unknown"
    with pytest.raises(BootFailed, match="manifest unknown"):
        wait(bench, pod_id)
    assert bench.at[0] - began < 60, "it waited although the logs said why"


def test_where_no_host_key_could_be_brought_the_one_of_the_first_contact_is_recorded(bench: LeaseBench, sshd: Server) -> None:
    pod_id = starting(bench, status="running", host=[sshd.address.host, sshd.address.port, "root"])

    assert boot.recorded_key(bench.world, wait(bench, pod_id)) == sshd.address.host_key


def test_a_server_that_greets_and_shows_no_key_fails_the_boot_in_time(bench: LeaseBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostkey, "shown", lambda *where, **more: None)
    with server(b"SSH-2.0-x\r\n") as port:
        pod_id = starting(bench, status="running", host=["127.0.0.1", port, "root"])
        with pytest.raises(BootFailed, match="shows no host key"):
            boot.recorded_key(bench.world, wait(bench, pod_id))


def test_where_nobody_can_log_in_no_ssh_server_is_said_to_be_waited_for(bench: LeaseBench) -> None:
    bench.cloud.capabilities = replace(bench.cloud.capabilities, ssh=False)
    pod_id, looks = starting(bench, status="running"), iter([False, False, True])
    boot.wait_for(bench.world, bench.cloud, pod_id, BootLimits(accepted=1, image=5, ssh=2), lambda: next(looks))
    [said] = [text for text in bench.messages if "waiting for" in text]
    assert "SSH" not in said and said.endswith("waiting for its container's first words, in the bucket")
