"""Lambda's API as its specification has it, with an account in memory: enough for all that is about the API alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.clouds.played import Answer, Asked, PlayedApi, Route, specification
from tests.clouds.runpod.scripted import TurnedPace
from trainyard.clouds.http import Pace
from trainyard.clouds.lambdacloud import LambdaCloud
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import PodSpec
from trainyard.pod.boot import boot_command
from trainyard.remote.keys import host_key
from trainyard.secret import Secret

API = "/api/v1"
WEST, EAST = {"name": "us-west-1", "description": "California, USA"}, {"name": "us-east-1", "description": "Virginia, USA"}


def error(code: str, status: int = 400, message: str = "Not enough capacity to fulfill launch request.") -> Answer:
    return status, {"error": {"code": code, "message": message, "suggestion": "Try again later."}}


def kind(name: str, gpu: str, cents: int, gpus: int, *regions: Mapping[str, str], disk: int = 1400) -> dict[str, Any]:
    specs = {"vcpus": 30, "memory_gib": 200, "storage_gib": disk, "gpus": gpus}
    instance_type = {"name": name, "description": f"{gpus}x {gpu}", "gpu_description": gpu, "price_cents_per_hour": cents, "specs": specs}
    return {"instance_type": instance_type, "regions_with_capacity_available": list(regions)}


TYPES = (
    kind("gpu_1x_a10", "A10 (24 GB PCIe)", 75, 1, WEST, EAST),
    kind("gpu_1x_a100", "A100 (40 GB PCIe)", 129, 1),
    kind("gpu_1x_a100_sxm4", "A100 (40 GB SXM4)", 129, 1, EAST, disk=512),
    kind("gpu_1x_h100_pcie", "H100 (80 GB PCIe)", 249, 1, WEST),
    kind("gpu_1x_h100_sxm5", "H100 (80 GB SXM5)", 329, 1, EAST),
    kind("gpu_8x_h100_sxm5", "H100 (80 GB SXM5)", 2392, 8, EAST),
    kind("gpu_1x_a6000", "A6000 (48 GB)", 80, 1, WEST),
    kind("cpu_4x_general", "N/A", 20, 0, WEST, disk=512),
)


@dataclass(slots=True)
class LambdaAccount:
    """What the account holds; a route of ``instead`` answers in the place of the usual one."""

    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    systems: dict[str, dict[str, Any]] = field(default_factory=dict)
    instead: dict[str, Route] = field(default_factory=dict)

    def routes(self) -> dict[str, Route]:
        usual: dict[str, Route] = {
            f"GET {API}/instances": lambda asked: (200, {"data": list(self.instances.values())}),
            f"GET {API}/instances/{{}}": self.show,
            f"POST {API}/instance-operations/launch": self.launch,
            f"POST {API}/instance-operations/terminate": self.terminate,
            f"GET {API}/instance-types": lambda asked: (200, {"data": {one["instance_type"]["name"]: one for one in TYPES}}),
            f"GET {API}/regions": lambda asked: (200, {"data": [WEST, EAST]}),
            f"GET {API}/file-systems": lambda asked: (200, {"data": list(self.systems.values())}),
            f"POST {API}/filesystems": self.add_system,
            f"DELETE {API}/filesystems/{{}}": self.remove_system,
            f"GET {API}/ssh-keys": lambda asked: (200, {"data": list(self.keys.values())}),
            f"POST {API}/ssh-keys": lambda asked: (200, {"data": self.add_key(asked.body["name"], asked.body["public_key"])}),
            f"DELETE {API}/ssh-keys/{{}}": self.remove_key,
        }

        def pick(key: str, route: Route) -> Route:
            return lambda asked: self.instead.get(key.replace(API, ""), route)(asked)

        return {key: pick(key, route) for key, route in usual.items()}

    def launch(self, asked: Asked) -> Answer:
        body = asked.body
        if [name for name in body["ssh_key_names"] if name not in {key["name"] for key in self.keys.values()}]:
            return error("global/object-does-not-exist", 404, "SSH key not found")
        item = next(one["instance_type"] for one in TYPES if one["instance_type"]["name"] == body["instance_type_name"])
        new = secrets.token_hex(16)
        self.instances[new] = {
            "id": new, "name": body.get("name", ""), "status": "booting", "ssh_key_names": body["ssh_key_names"],
            "file_system_names": [], "region": WEST if body["region_name"] == WEST["name"] else EAST, "instance_type": item,
            "tags": body.get("tags", []),
            "actions": {key: {"available": True} for key in ("migrate", "rebuild", "restart", "cold_reboot", "terminate")},
        }  # fmt: skip
        return 200, {"data": {"instance_ids": [new]}}

    def show(self, asked: Asked) -> Answer:
        instance = self.instances.get(asked.name)
        return (200, {"data": instance}) if instance else error("global/object-does-not-exist", 404, "Specified instance does not exist.")

    def terminate(self, asked: Asked) -> Answer:
        wanted = asked.body["instance_ids"]
        if any(one not in self.instances for one in wanted):
            return error("global/object-does-not-exist", 404, "Specified instance does not exist.")
        for one in wanted:
            self.instances[one] |= {"status": "terminating"}
        return 200, {"data": {"terminated_instances": [self.instances[one] for one in wanted]}}

    def add_key(self, name: str, public_key: str) -> dict[str, str]:
        new = secrets.token_hex(16)
        self.keys[new] = {"id": new, "name": name, "public_key": public_key}
        return self.keys[new]

    def remove_key(self, asked: Asked) -> Answer:
        gone = self.keys.pop(asked.name, None)
        return (200, {"data": {}}) if gone else error("global/object-does-not-exist", 404, "no such key")

    def add_system(self, asked: Asked) -> Answer:
        new, name = secrets.token_hex(16), asked.body["name"]
        self.systems[new] = {
            "id": new, "name": name, "mount_point": f"/lambda/nfs/{name}", "created": "2026-11-30T00:00:00+00:00", "is_in_use": False,
            "created_by": {"id": "0" * 32, "email": "you@example.com", "status": "active"}, "region": WEST, "bytes_used": 12_340_000_000,
        }  # fmt: skip
        return 200, {"data": self.systems[new]}

    def remove_system(self, asked: Asked) -> Answer:
        gone = self.systems.pop(asked.name, None)
        return (200, {"data": {"deleted_ids": [asked.name]}}) if gone else error("global/object-does-not-exist", 404, "no such system")


@pytest.fixture
def account() -> LambdaAccount:
    return LambdaAccount()


@pytest.fixture
def api(account: LambdaAccount) -> Iterator[PlayedApi]:
    played = PlayedApi(account.routes(), specification(Path(__file__).parent))
    yield played
    played.close()
    assert played.broken == [], "asked or answered against the specification"


@pytest.fixture
def pace() -> TurnedPace:
    return TurnedPace()


@pytest.fixture
def cloud(api: PlayedApi, pace: TurnedPace) -> Iterator[LambdaCloud]:
    """A client that waits on a turned clock."""
    cloud = LambdaCloud(Secret("secret_rehearsal_key"), api.url + API, pace=Pace(pace.now, pace.sleep, lambda: 0.5))
    yield cloud
    cloud.close()


@pytest.fixture
def spec() -> Callable[..., PodSpec]:
    """Return a maker of specs, each of its own name."""

    def make(**changes: object) -> PodSpec:
        fence, lease, end = new_id(), new_id(), datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
        name = str(PodName(fence, lease, "pod", "0123abcd"))
        plain = PodSpec(
            name=name, fence_id=fence, lease_id=lease, stop=end - timedelta(minutes=30), end=end, public_key="ssh-ed25519 AAAA me",
            host_key=host_key(b"s" * 32, name).private_pem, env={"TRAINYARD_PRICE": "0.75", "COLOUR": "deep blue"}, boot=boot_command(),
        )  # fmt: skip
        return replace(plain, **changes)  # type: ignore[arg-type]

    return make
