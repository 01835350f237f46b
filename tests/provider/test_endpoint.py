"""Endpoint: its creation waits for the pod's address, reading it returns the fresh one."""

from __future__ import annotations

import pytest

from tests.leases.bench import FENCE, LEASE
from tests.leases.test_boot import server
from tests.provider.conftest import Bench
from trainyard.errors import BootFailed, CloudUnknown
from trainyard.provider import model
from trainyard.provider.endpoint import ENDPOINT, EndpointInputs
from trainyard.provider.handler import diff
from trainyard.provider.values import Properties


def inputs(pod_id: str, **more: object) -> Properties:
    return {"cloud": "model", "pod_id": pod_id, "boot_accepted_minutes": 1, "boot_image_minutes": 5, "boot_ssh_minutes": 2, **more}  # type: ignore[dict-item]


def starting(bench: Bench, **more: object) -> str:
    return bench.cloud.add(f"ty-{FENCE}-{LEASE}-pod-00000000", FENCE, LEASE, **{"status": "starting", **more})


def create(bench: Bench, pod_id: str, **more: object) -> Properties:
    return ENDPOINT.create(bench.call(kind="Endpoint"), inputs(pod_id, **more))[1]


def test_the_address_at_which_an_ssh_server_greets_is_the_output(bench: Bench) -> None:
    with server(b"SSH-2.0-OpenSSH\r\n") as port:
        pod_id = starting(bench)
        bench.during += [lambda: None, lambda: bench.cloud.change(pod_id, status="running", host=["127.0.0.1", port, "root"])]
        outputs = create(bench, pod_id)
        assert {name: value for name, value in outputs.items() if value is not None} == {
            "host": "127.0.0.1", "port": port, "user": "root", "workspace": "/workspace",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "given", "minutes"),
    [
        ("accepted", {"boot_accepted_minutes": 3}, 3),
        ("image", {"boot_image_minutes": 7}, 7),
        ("image", {"boot_image_minutes": None, "image_gb": 36}, 20),
        ("ssh", {"boot_ssh_minutes": 4}, 4),
    ],
)
def test_the_inputs_are_the_deadlines_of_the_phases(bench: Bench, phase: str, given: dict[str, object], minutes: int) -> None:
    pod_id = starting(bench, status={"accepted": "unknown", "image": "starting", "ssh": "running"}[phase])
    with pytest.raises(BootFailed, match=f"not past phase '{phase}' after {minutes} minutes"):
        create(bench, pod_id, **given)


def test_what_is_not_given_is_ten_minutes_for_ssh_and_the_image_s_own() -> None:
    given = model.parse(EndpointInputs, {"cloud": "model", "pod_id": "p"})
    assert (given.boot_image_minutes, given.boot_ssh_minutes) == (None, 10)


def test_read_returns_the_fresh_address_the_last_one_while_there_is_none_and_gone_with_the_pod(bench: Bench) -> None:
    call = bench.call(kind="Endpoint")
    old: Properties = {"host": "1.2.3.4", "port": 1, "user": "root", "workspace": "/workspace"}
    pod_id = starting(bench)
    assert ENDPOINT.read(call, pod_id, old, inputs(pod_id)).properties == old
    bench.cloud.change(pod_id, host=["5.6.7.8", 22, "root"])
    assert ENDPOINT.read(call, pod_id, old, inputs(pod_id)).properties["host"] == "5.6.7.8"
    bench.cloud.set_faults(get=["503"])
    with pytest.raises(CloudUnknown):
        ENDPOINT.read(call, pod_id, old, inputs(pod_id))
    bench.cloud.terminate(pod_id)
    assert ENDPOINT.read(call, pod_id, old, inputs(pod_id)).id == ""


def test_other_boot_deadlines_are_no_change_and_another_pod_is_another_endpoint(bench: Bench) -> None:
    call = bench.call(kind="Endpoint")
    assert not diff(ENDPOINT, call, {}, inputs("p0"), inputs("p0", boot_ssh_minutes=9)).changes
    assert diff(ENDPOINT, call, {}, inputs("p0"), inputs("p1")).changes == {"pod_id": "update-replace"}
