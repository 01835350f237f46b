"""A pod as it is wished for, in plain values, and what that makes of a request to its cloud. Knows nothing of Pulumi."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainyard.clock import parse_time
from trainyard.clouds.protocol import OfferQuery, PodSpec
from trainyard.leases.rent import PodRequest
from trainyard.pod.boot import SECRETS, boot_command, container_command, starts_watchdog_itself
from trainyard.remote.keys import host_key


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWish:
    """What the provider is given for a pod, by the names of its inputs."""

    lease_id: str
    fence_id: str
    stop: str | None
    end: str
    host_key_seed: str
    public_key: str
    budget: float | None
    heartbeat_minutes: float | None
    idle_minutes: float | None
    stall_minutes: float | None
    gpus: tuple[str, ...]
    gpu_count: int
    disk_gb: int
    max_price: float | None
    regions: tuple[str, ...]
    tier: str | None
    spot: bool
    image: str | None
    template: str | None
    volume: str | None
    ports: tuple[str, ...]
    env: Mapping[str, str]
    registry: str | None
    min_cuda: str | None
    min_vram_gb: float | None
    reliability: float | None
    inet_down: float | None
    only_offers: tuple[str, ...] | None
    options: Mapping[str, str] | None
    avoid_offers: tuple[str, ...] | None
    container_bundle: str | None
    container_secrets: str | None
    store: str | None
    bucket: str | None

    def request(self, name: str) -> PodRequest:
        """Return what is asked of a cloud for a pod of that name."""
        return PodRequest(
            query=self._query(),
            spec=self._spec(name),
            key=host_key(seed_of(self.host_key_seed) or b"", name),
            budget=self.budget,
            heartbeat_minutes=self.heartbeat_minutes,
            idle_minutes=self.idle_minutes,
            stall_minutes=self.stall_minutes,
            only_offers=self.only_offers,
            avoid_offers=self.avoid_offers or (),
            store=self.store,
            bucket=self.bucket,
        )

    def _query(self) -> OfferQuery:
        return OfferQuery(
            gpus=self.gpus, gpu_count=self.gpu_count, max_price=self.max_price, regions=self.regions, spot=self.spot, tier=self.tier,
            min_cuda=self.min_cuda, min_vram_gb=self.min_vram_gb, volume=self.volume, disk_gb=self.disk_gb, reliability=self.reliability,
            inet_down=self.inet_down, options=self.options or {},
        )  # fmt: skip

    def _spec(self, name: str) -> PodSpec:
        return PodSpec(
            name=name, fence_id=self.fence_id, lease_id=self.lease_id, stop=parse_time(self.stop), end=parse_time(self.end),
            image=self.image, template=self.template, disk_gb=self.disk_gb, volume=self.volume, ports=self.ports, env=self.env,
            public_key=self.public_key, registry=self.registry, options=self.options or {},
            boot=() if self.container_bundle or starts_watchdog_itself(self.image) else boot_command(),
            command=container_command(self.container_bundle) if self.container_bundle else (),
            secret_env={SECRETS: self.container_secrets} if self.container_secrets else {},
        )  # fmt: skip


def seed_of(text: str) -> bytes | None:
    """Return the bytes of a seed for host keys; None for what is none."""
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        return None
    return seed if len(seed) >= 16 else None
