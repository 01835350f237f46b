"""What the emulators answer is of the form that their clouds' specifications have."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tests.clouds
from tests.clouds.account import OPTIONS
from tests.clouds.played import specification
from trainyard.clouds import open_cloud
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import OfferQuery, PodSpec
from trainyard.config import places
from trainyard.rehearsal.emulators import emulator_of
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.remote.keys import host_key

API, IONET = "/api/v1", "/enterprise/v1/io-cloud"
_FREE = "hardware_id=212&hardware_qty=1"
_PRICE = "/price?location_ids=[1]&hardware_id=212&duration_hours=2&replica_count=1"
PATHS = {
    "lambda": (API, "/instances", "/instances/{}", "/instance-types", "/regions", "/ssh-keys", "/file-systems"),
    "prime": (API, "/pods/", "/pods/{}", "/pods/history", "/availability/gpus", "/ssh_keys/", "/disks/"),
    "ionet": (f"{IONET}/caas", "/deployments", "/deployment/{}", "/deployment/{}/containers", "/hardware/max-gpus-per-container",
              f"/available-replicas?{_FREE}", f"{_PRICE}&gpus_per_container=1"),
    "ionet-vm": (f"{IONET}/vmaas", "/deployments", "/deployment/{}", "/deployment/{}/vms", "/hardware/max-gpus-per-vm",
                 f"/available-vms?{_FREE}", f"{_PRICE}&gpus_per_vm=1&currency=usdc"),
    "replicate": ("/v1", "/account", "/hardware", "/trainings", "/trainings/{}", "/predictions",
                  f"/models/you/trainyard/versions/{'0' * 64}"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "folder"),
    [("lambda", "lambdacloud"), ("prime", "prime"), ("ionet", "ionet"), ("ionet-vm", "ionet"), ("replicate", "replicate")],
)
def test_answers_before_and_after_an_end_are_of_the_specification(tmp_path: Path, name: str, folder: str) -> None:
    fence, lease = new_id(), new_id()
    spec = PodSpec(
        name=str(PodName(fence, lease, "pod", "0123abcd")), fence_id=fence, lease_id=lease, stop=None,
        end=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1), public_key="ssh-ed25519 AAAA me",
        host_key=host_key(b"s" * 32, "a").private_pem, command=("sh", "-c", "true"),
        options=OPTIONS.get(name, {}),
    )  # fmt: skip
    emulator = start(emulator_of(name), tmp_path, timing=Timing(provisioning=1e9), env={})
    try:
        cloud = open_cloud(name, emulator.env, places(tmp_path, {}))
        made = cloud.create(spec, cloud.offers(OfferQuery(gpus=("H100",)))[0])
        assert (cloud.simulated, cloud.list()) == (True, [replace(made)])
        before = _against(emulator, name, folder, made.id)
        cloud.terminate(made.id)

        assert before + _against(emulator, name, folder, made.id) == []
        assert {pod.status for pod in cloud.list()} <= {"terminating"}
        assert [paid.end is None for paid in emulator.ledger()] == [False]
    finally:
        emulator.stop(end_pods=True)


def _against(emulator: Emulator, name: str, folder: str, pod_id: str) -> list[str]:
    """Return what is wrong with the answers to all that can be read."""
    specified = specification(Path(tests.clouds.__file__).parent / folder)
    wrong: list[str] = []
    api, *paths = PATHS[name]
    key = "Bearer " if emulator.cloud.key_header == "Authorization" else ""
    for path in paths:
        asked = api + path.format(pod_id)
        request = urllib.request.Request(emulator.address + asked, headers={emulator.cloud.key_header: key + emulator.key})
        with urllib.request.urlopen(request) as answer:
            wrong += specified.wrong(specified.operation("GET", asked.partition("?")[0]) or "", "200", json.load(answer))
    return wrong
