"""io.net's API as its specification has it, with an account in memory: enough for all that is about the API alone."""

from __future__ import annotations

import json
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
from trainyard.clouds.ionet import IonetCloud
from trainyard.clouds.ionet.services import CONTAINERS, IonetService
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import PodSpec
from trainyard.secret import Secret

API = "/enterprise/v1/io-cloud"
KEY = "io-v2-rehearsal_key"
NOT_FOUND: Answer = (404, {"detail": "Deployment not found"})
PLACES = {1: ("US", "United States"), 2: ("FI", "Finland")}


@dataclass(slots=True)
class IonetAccount:
    """What one service of the account holds; a route of ``instead`` answers in the place of the usual one."""

    service: IonetService
    hourly: dict[tuple[int, int], float] = field(default_factory=lambda: {(203, 1): 0.44, (203, 2): 0.40, (212, 1): 2.1, (211, 2): 1.7})
    """Dollars for each GPU, by hardware and location."""
    names: dict[int, str] = field(default_factory=lambda: {203: "GeForce RTX 4090", 211: "H100 PCIe", 212: "H100 SXM"})
    full: set[tuple[int, int]] = field(default_factory=set)
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As they are shown alone, with their names beside."""
    units: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    instead: dict[str, Route] = field(default_factory=dict)

    def routes(self) -> dict[str, Route]:
        usual: dict[str, Route] = {
            "GET /deployments": self.listing,
            "POST /deploy": self.deploy,
            "GET /deployment/{}": self.show,
            "DELETE /deployment/{}": self.destroy,
            "POST /deployment/{}/extend": self.extend,
            f"GET /deployment/{{}}/{self.service.units}": self.consists,
            "GET /deployment/{}/log/{}": lambda asked: (200, self.logs.get(asked.query["stream"], "")),
            f"GET /hardware/{self.service.most.replace('_', '-')}": self.hardware,
            f"GET /{self.service.room}": self.rooms,
            "GET /price": self.price,
        }

        def pick(key: str, route: Route) -> Route:
            return lambda asked: self.instead.get(key, route)(asked)

        return {key.replace(" ", f" {API}/{self.service.path}", 1): pick(key, route) for key, route in usual.items()}

    def listing(self, asked: Asked) -> Answer:
        rows = [
            {"id": one["id"], "status": one["status"], "name": name, "completed_percent": 0.0, "hardware_quantity": one["total_gpus"],
             **{key: one[key] for key in ("brand_name", "hardware_name", "compute_minutes_served", "compute_minutes_remaining")}}
            for one in self.deployments.values() for name in [one["the name"]]
        ]  # fmt: skip
        number, size = int(asked.query["page"]), int(asked.query["page_size"])
        return 200, {"data": {"deployments": rows[number * size : (number + 1) * size], "total": len(rows), "statuses": []}}

    def deploy(self, asked: Asked) -> Answer:
        body, new = asked.body, str(uuid.uuid4())
        (location,), hardware, count, hours = body["location_ids"], body["hardware_id"], body[self.service.gpus], body["duration_hours"]
        own: dict[str, Any] = {"ssh_keys": body.get("ssh_keys"), "github_ids": []}
        if config := body.get("container_config"):
            shown = {key: config.get(key) for key in ("entrypoint", "env_variables", "traffic_port")}
            secret = {"image_url": body["registry_config"]["image_url"], "secret_env_keys": sorted(config["secret_env_variables"])}
            own = {"container_config": {**shown, **secret}}
        self.deployments[new] = {
            "id": new, "status": "deployment requested", "created_at": "2026-11-30T01:02:03.456789Z", "started_at": None,
            "finished_at": None, "amount_paid": self.hourly[hardware, location] * count * hours, "completed_percent": 0.0,
            "total_gpus": count, self.service.gpus: count, f"total_{self.service.units}": 1, "hardware_name": self.names[hardware],
            "hardware_id": hardware, "locations": [self.place(location)], "brand_name": "NVIDIA", "compute_minutes_served": 0,
            "compute_minutes_remaining": 60 * hours, "the name": body["resource_private_name"], **own,
        }  # fmt: skip
        return 200, {"status": "deployment requested", "deployment_id": new}

    def show(self, asked: Asked) -> Answer:
        one = self.deployments.get(asked.name)
        return (200, {"data": {key: value for key, value in one.items() if key != "the name"}}) if one else NOT_FOUND

    def destroy(self, asked: Asked) -> Answer:
        if asked.name not in self.deployments:
            return NOT_FOUND
        self.deployments[asked.name]["status"] = "termination requested"
        return 200, {"status": "termination requested", "deployment_id": asked.name}

    def extend(self, asked: Asked) -> Answer:
        one = self.deployments[asked.path.split("/")[-2]]
        one["compute_minutes_remaining"] += 60 * asked.body["duration_hours"]
        return self.show(replace(asked, name=one["id"]))

    def consists(self, asked: Asked) -> Answer:
        units = self.units.get(asked.path.split("/")[-2], [])
        return 200, {"data": {"total": len(units), "workers": units}}

    def unit(self, **changes: Any) -> dict[str, Any]:
        """Return one container or machine."""
        own: dict[str, Any] = {"container_events": [], "public_url": None} if not self.service.ssh else {
            "vm_events": [], "network_services": {}, "ssh_access": "",
        }  # fmt: skip
        return {
            "device_id": str(uuid.uuid4()), f"{self.service.unit}_id": "c1", "hardware": "H100", "brand_name": "NVIDIA",
            "created_at": "2026-11-30T01:02:03Z", "uptime_percent": 0.0, self.service.gpus: 1, "status": "running", **own, **changes,
        }  # fmt: skip

    def hardware(self, asked: Asked) -> Answer:
        rows = [
            {self.service.most: 4, "available": 8, "hardware_id": hardware, "hardware_name": name, "brand_name": "NVIDIA"}
            for hardware, name in self.names.items()
        ]
        return 200, {"data": {"hardware": rows, "total": len(rows)}}

    def rooms(self, asked: Asked) -> Answer:
        hardware = int(asked.query["hardware_id"])
        free = {place: int((hardware, place) in self.hourly and (hardware, place) not in self.full) for place in PLACES}
        return 200, {"data": [{**self.place(place), "available_replicas": count} for place, count in free.items()]}

    def price(self, asked: Asked) -> Answer:
        (location,), hardware = json.loads(asked.query["location_ids"]), int(asked.query["hardware_id"])
        count, hours = int(asked.query[self.service.gpus]), int(asked.query["duration_hours"])
        fees = {f"{fee}{unit}": 0.0 for fee in ("ionet_fee", "currency_conversion_fee") for unit in ("", "_percent")}
        total = self.hourly[hardware, location] * count * hours
        more = {"replica_count": 1, self.service.gpus: count, "available_replica_count": [1], "discount": 0.0}
        return 200, {"data": {**more, **fees, "total_cost_usdc": total}}

    @staticmethod
    def place(location: int) -> dict[str, Any]:
        iso2, name = PLACES[location]
        return {"id": location, "iso2": iso2, "name": name}


@pytest.fixture
def service() -> IonetService:
    """Return the containers; a test of machines says so."""
    return CONTAINERS


@pytest.fixture
def account(service: IonetService) -> IonetAccount:
    return IonetAccount(service)


@pytest.fixture
def api(account: IonetAccount) -> Iterator[PlayedApi]:
    played = PlayedApi(account.routes(), specification(Path(__file__).parent))
    yield played
    played.close()
    assert played.broken == [], "asked or answered against the specification"


@pytest.fixture
def cloud(api: PlayedApi, service: IonetService) -> Iterator[IonetCloud]:
    """A client that waits on a turned clock."""
    pace = TurnedPace()
    cloud = IonetCloud(service, Secret(KEY), api.url, pace=Pace(pace.now, pace.sleep, lambda: 0.5))
    yield cloud
    cloud.close()


@pytest.fixture
def spec(service: IonetService) -> Callable[..., PodSpec]:
    """Return a maker of specs, each of its own name."""

    def make(**changes: object) -> PodSpec:
        fence, lease, end = new_id(), new_id(), datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
        plain = PodSpec(
            name=str(PodName(fence, lease, "pod", "0123abcd")), fence_id=fence, lease_id=lease, stop=end - timedelta(minutes=30), end=end,
            public_key="ssh-ed25519 AAAA me", env={"TRAINYARD_PRICE": "0.75"},
            command=() if service.ssh else ("sh", "-c", "echo 'all of it'"), secret_env={"TRAINYARD_SECRETS": "X-Amz-Signature=1"},
        )  # fmt: skip
        return replace(plain, **changes)  # type: ignore[arg-type]

    return make
