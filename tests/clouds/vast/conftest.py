"""A scripted Vast.ai, and a client whose clock only sleeping moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from tests.clouds.runpod.scripted import Say, Scripted, TurnedPace
from trainyard.clouds.http import Pace
from trainyard.clouds.marker import PodName
from trainyard.clouds.protocol import PodSpec
from trainyard.clouds.vast import VastCloud
from trainyard.remote.keys import host_key

FENCE, LEASE = "a" * 10, "b" * 10
NAME = str(PodName(FENCE, LEASE, "pod", "0123abcd"))
END = datetime(2026, 12, 1, 3, tzinfo=UTC)
STOP = END - timedelta(minutes=30)
KEY = "k" * 32


@dataclass
class Bench:
    """A client, what it is answered, and how long it has slept."""

    cloud: VastCloud
    server: Scripted
    pace: TurnedPace

    @property
    def asked(self) -> list[str]:
        return [f"{method} {path.removeprefix('/v2').partition('?')[0]}" for method, path, _, _ in self.server.asked]


@pytest.fixture
def serve() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def start(*answers: Say) -> Bench:
        server, pace = Scripted(*answers), TurnedPace()
        cloud = VastCloud.from_env({"VAST_API_KEY": KEY, "VAST_URL": server.url})
        cloud._api.pace = cloud.pace = Pace(pace.now, pace.sleep, lambda: 0.5)
        cloud._api.timeout = 5.0
        made.append(Bench(cloud, server, pace))
        return made[-1]

    yield start
    for bench in made:
        bench.cloud.close()
        bench.server.close()


def make_spec(**changes: object) -> PodSpec:
    given = {
        "name": NAME, "fence_id": FENCE, "lease_id": LEASE, "stop": STOP, "end": END, "image": "example/trainyard-trainer@sha256:00",
        "public_key": "ssh-ed25519 AAAA me", "host_key": host_key(b"s" * 32, NAME).private_pem,
    }  # fmt: skip
    return PodSpec(**{**given, **changes})  # type: ignore[arg-type]


def row(**changes: object) -> dict[str, object]:
    """Return an instance as Vast.ai lists it."""
    given: dict[str, object] = {
        "id": 77, "label": f"{NAME} 2026-12-01T02:30:00Z 2026-12-01T03:00:00Z", "actual_status": "running", "cur_state": "running",
        "next_state": "running", "intended_status": "running", "is_bid": False, "dph_total": 0.42, "start_date": 1796000000.5,
        "extra_env": [["TRAINYARD_FENCE_ID", FENCE], ["TRAINYARD_LEASE_ID", LEASE], ["TRAINYARD_END", "2026-12-01T01:00:00Z"],
                      ["-p 8888:8888", "1"]],
        "public_ipaddr": " 203.0.113.9 \n", "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "20000"}]}, "direct_port_count": 2,
        "ssh_host": "ssh5.vast.ai", "ssh_port": 10600, "gpu_name": "RTX 4090", "num_gpus": 1, "geolocation": "Sweden, SE",
        "status_msg": None, "storage_total_cost": 0.002,
    }  # fmt: skip
    return {**given, **changes}


def one(**changes: object) -> Say:
    return Say(200, {"instances": row(**changes)})


def page(*rows: dict[str, object], token: str | None = None, total: int | None = None) -> Say:
    body = {"success": True, "instances": list(rows), "next_token": token, "total_instances": len(rows) if total is None else total}
    return Say(200, body)


def refused(status: int, error: str, msg: str = "") -> Say:
    return Say(status, {"success": False, "error": error, "msg": msg})
