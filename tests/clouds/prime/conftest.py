"""Prime Intellect's API as its specification has it, with an account in memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.clouds.played import Answer, Asked, PlayedApi, Route, specification
from tests.clouds.runpod.scripted import TurnedPace
from trainyard.clouds.http import Pace
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.prime import PrimeCloud
from trainyard.clouds.protocol import PodSpec
from trainyard.pod.boot import boot_command
from trainyard.secret import Secret

API = "/api/v1"


def entry(gpu: str, price: float, **more: Any) -> dict[str, Any]:
    """Return an offer of one secure GPU in dollars; ``more`` replaces what differs."""
    plain: dict[str, Any] = {
        "cloudId": f"{gpu}-id", "gpuType": gpu, "socket": "PCIe", "provider": "hyperstack", "region": "canada",
        "dataCenter": "CANADA-1", "country": "CA", "gpuCount": 1, "gpuMemory": int(gpu.rpartition("_")[2].removesuffix("GB")), "disk": {},
        "vcpu": {"defaultCount": 28},
        "memory": {"defaultCount": 180}, "stockStatus": "Available", "security": "secure_cloud",
        "prices": {"onDemand": price, "communityPrice": None, "isVariable": False, "currency": "USD"},
        "images": ["ubuntu_22_cuda_12", "axolotl"], "isSpot": None, "prepaidTime": None,
    }  # fmt: skip
    return {**plain, **more}


def community(price: float) -> dict[str, Any]:
    return {"onDemand": None, "communityPrice": price, "currency": "USD"}


def page(items: list[Any], asked: Asked) -> Answer:
    offset, limit = int(asked.query.get("offset", 0)), int(asked.query.get("limit", 100))
    return 200, {"total_count": len(items), "offset": offset, "limit": limit, "data": items[offset : offset + limit]}


@dataclass(slots=True)
class PrimeAccount:
    """What the account holds; a route of ``instead`` answers in the place of the usual one."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    disks: list[dict[str, Any]] = field(default_factory=list)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    instead: dict[str, Route] = field(default_factory=dict)

    def routes(self) -> dict[str, Route]:
        usual: dict[str, Route] = {
            f"GET {API}/availability/gpus": self.availability,
            f"GET {API}/pods/": lambda asked: page(list(self.pods.values()), asked),
            f"POST {API}/pods/": self.create,
            f"GET {API}/pods/{{}}": self.show,
            f"DELETE {API}/pods/{{}}": self.delete,
            f"GET {API}/pods/history": lambda asked: page(self.history, asked),
            f"GET {API}/disks/": lambda asked: page(self.disks, asked),
            f"GET {API}/ssh_keys/": lambda asked: page(list(self.keys.values()), asked),
            f"POST {API}/ssh_keys/": lambda asked: (200, self.add_key(asked.body["name"], asked.body["publicKey"])),
            f"DELETE {API}/ssh_keys/{{}}": lambda asked: (200, {}) if self.keys.pop(asked.name, None) else (404, {"detail": "no such key"}),
        }

        def pick(key: str, route: Route) -> Route:
            return lambda asked: self.instead.get(key.replace(API, ""), route)(asked)

        return {key: pick(key, route) for key, route in usual.items()}

    def availability(self, asked: Asked) -> Answer:
        cloud, count = asked.query.get("cloud_id"), asked.query.get("gpu_count")
        wanted = [one for one in self.entries if cloud in (None, one["cloudId"]) and count in (None, str(one["gpuCount"]))]
        size, number = int(asked.query["page_size"]), int(asked.query["page"])
        return 200, {"items": wanted[(number - 1) * size : number * size], "totalCount": len(wanted)}

    def create(self, asked: Asked) -> Answer:
        pod, new = asked.body["pod"], str(uuid.uuid4())
        self.pods[new] = {
            "id": new, "userId": "u1", "teamId": (asked.body.get("team") or {}).get("teamId"), "name": pod["name"],
            "status": "PROVISIONING",
            "providerType": asked.body["provider"]["type"], "gpuName": pod["gpuType"], "gpuCount": pod["gpuCount"], "socket": pod["socket"],
            "priceHr": 1.23, "installationStatus": "PENDING", "createdAt": "2026-11-30T01:02:03.456789Z", "sshConnection": None, "ip": None,
        }  # fmt: skip
        return 200, self.pods[new]

    def show(self, asked: Asked) -> Answer:
        pod = self.pods.get(asked.name)
        return (200, pod) if pod else (404, {"detail": "Pod not found"})

    def delete(self, asked: Asked) -> Answer:
        if asked.name not in self.pods:
            return 404, {"detail": "Pod not found"}
        self.pods[asked.name]["status"] = "DELETING"
        return 200, {"status": "DELETING"}

    def add_key(self, name: str, public_key: str) -> dict[str, Any]:
        new = str(uuid.uuid4())
        self.keys[new] = {"id": new, "userId": "u1", "name": name, "publicKey": public_key, "isPrimary": False, "isUserKey": True}
        return self.keys[new]


@pytest.fixture
def account() -> PrimeAccount:
    return PrimeAccount([entry("RTX4090_24GB", 0.44), entry("H100_80GB", 2.5, socket="SXM5"), entry("H100_80GB", 1.9, cloudId="pcie")])


@pytest.fixture
def api(account: PrimeAccount) -> Iterator[PlayedApi]:
    played = PlayedApi(account.routes(), specification(Path(__file__).parent))
    yield played
    played.close()
    assert played.broken == [], "asked or answered against the specification"


@pytest.fixture
def cloud(api: PlayedApi) -> Iterator[PrimeCloud]:
    """A client that waits on a turned clock."""
    pace = TurnedPace()
    cloud = PrimeCloud(Secret("pit_rehearsal_key"), api.url, pace=Pace(pace.now, pace.sleep, lambda: 0.5))
    yield cloud
    cloud.close()


@pytest.fixture
def spec() -> Callable[..., PodSpec]:
    """Return a maker of specs, each of its own name."""

    def make(**changes: object) -> PodSpec:
        fence, lease, end = new_id(), new_id(), datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
        plain = PodSpec(
            name=str(PodName(fence, lease, "pod", "0123abcd")), fence_id=fence, lease_id=lease, stop=end - timedelta(minutes=30), end=end,
            public_key="ssh-ed25519 AAAA me", env={"TRAINYARD_PRICE": "0.75", "COLOUR": "deep blue"}, boot=boot_command(),
        )  # fmt: skip
        return replace(plain, **changes)  # type: ignore[arg-type]

    return make
