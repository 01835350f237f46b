"""Addresses and odd answers."""

from __future__ import annotations

import pytest

from tests.clouds.runpod.scripted import Say, Scripted, TurnedPace
from trainyard.clouds.runpod import RunPodCloud, answers
from trainyard.errors import CloudError, CloudUnknown
from trainyard.rehearsal.kit import Emulator, Faults


def running(**changes: object) -> dict[str, object]:
    return {"id": "x", "status": "RUNNING", **changes}


def port(kind: str, ip: str | None, public: int | None, private: int = 22) -> dict[str, object]:
    return {"private": private, "public": public, "type": kind, "ip": ip}


@pytest.mark.parametrize(
    ("ports", "found"),
    [
        ([port("udp", "1.2.3.4", 1001), port("tcp", "1.2.3.4", 1002)], ("1.2.3.4", 1002)),
        ([port("http", "100.65.0.1", 60022), port("tcp", "1.2.3.4", 1002)], ("1.2.3.4", 1002)),
        ([port("tcp", "1.2.3.4", 1003, private=8888), port("tcp", "1.2.3.4", 1002)], ("1.2.3.4", 1002)),
        ([port("tcp", None, 1002)], None),
        ([port("tcp", "1.2.3.4", None)], None),
        ([port("udp", "1.2.3.4", 1001)], None),
        ([], None),
        (None, None),
    ],
)
def test_the_tcp_mapping_of_22_is_the_address(ports: object, found: tuple[str, int] | None) -> None:
    address = answers.ssh_address(running(runtime={"ports": ports}))
    assert (address and (address.host, address.port)) == found


def test_the_live_mapping_wins_over_the_ssh_block() -> None:
    direct = {"host": "9.9.9.9", "port": 17740, "username": "root", "command": ""}
    pod = running(runtime={"ports": [port("tcp", "1.2.3.4", 12890)]}, ssh={"proxy": None, "direct": direct})
    address = answers.ssh_address(pod)
    assert address is not None and address.port == 12890
    lone = answers.ssh_address({**pod, "runtime": None})
    assert lone is not None and lone.port == 17740


def test_the_proxy_and_a_stopped_pods_last_address_are_no_addresses() -> None:
    proxy = {"host": "ssh.runpod.io", "port": 22, "username": "x-1", "command": ""}
    assert answers.ssh_address(running(ssh={"proxy": proxy, "direct": None})) is None
    stopped = {"id": "x", "status": "EXITED", "runtime": {"ports": [port("tcp", "1.2.3.4", 1002)]}}
    assert answers.ssh_address(stopped) is None


def test_a_204_is_not_parsed(pace: TurnedPace) -> None:
    server = Scripted(Say(204, raw=b""))
    cloud = RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": server.url})
    cloud.terminate("x")
    server.close()


def test_a_pod_reported_as_terminated_is_gone() -> None:
    server = Scripted(Say(200, {"pods": [{"id": "x", "status": "TERMINATED"}], "id": "x", "status": "TERMINATED"}))
    cloud = RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": server.url})
    assert cloud.get("x") is None and cloud.list() == []
    server.close()


def test_a_listed_pod_without_id_makes_the_list_an_error() -> None:
    server = Scripted(Say(200, {"pods": [{"name": "x", "status": "RUNNING"}]}))
    cloud = RunPodCloud.from_env({"RUNPOD_API_KEY": "k", "RUNPOD_API_URL": server.url})
    with pytest.raises(CloudUnknown, match="without an id"):
        cloud.list()
    server.close()


def test_faults_can_be_switched_from_another_process(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    Faults(rehearsal.root, rehearsal.cloud.faults).on("list-v1-array", times=1)
    with pytest.raises(CloudError):
        cloud.list()
    assert cloud.list() == []
