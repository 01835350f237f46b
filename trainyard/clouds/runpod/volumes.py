"""RunPod's network volumes: bound to a data center, growing only, paid for by their size."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from trainyard.clouds.http import Api
from trainyard.clouds.runpod import answers, catalog
from trainyard.clouds.values import json_object, mapping, number, path_id, text
from trainyard.clouds.volumes import NetworkVolume, VolumeTerms
from trainyard.errors import CloudUnknown

TYPE = "STANDARD"
"""The tier whose price is known. Without it a data center's own default would be made, whatever that costs."""
PATH = "/network-volumes"
Entries = Sequence[Mapping[str, object]]


@dataclass(slots=True)
class RunPodVolumes:
    """The network volumes of one account; the two functions return complete lists or raise."""

    api: Api
    post_timeout: float
    entries: Callable[[str, str], Entries]
    pods: Callable[[], Entries]
    terms: VolumeTerms = VolumeTerms(least_gb=10, most_gb=4096, grows=True)  # noqa: RUF009 - frozen

    def list(self) -> builtins.list[NetworkVolume]:
        """Return every network volume, with the pods that mount it."""
        volumes = self.entries(PATH, "networkVolumes")
        mounted = [(volume_id, str(pod.get("id"))) for pod in self.pods() for volume_id in _mounted(pod)] if volumes else []
        return [_volume(entry, [pod for volume_id, pod in mounted if volume_id == entry.get("id")]) for entry in volumes]

    def places(self) -> frozenset[str]:
        """Return the data centers that have network volumes of the standard tier."""
        centers = self.entries("/catalog/datacenters", "dataCenters")
        return frozenset(str(center.get("id")) for center in centers if TYPE in _texts(center.get("networkVolumeTypes")))

    def per_month(self, size_gb: float) -> float:
        """Return the dollars a month of a standard volume."""
        return catalog.volume_month(size_gb)

    def create(self, name: str, place: str, size_gb: float) -> NetworkVolume:
        """Create one standard volume, with at most one request that RunPod may have accepted."""
        body = {"name": name, "size": ceil(size_gb), "dataCenter": place, "type": TYPE}
        response = self.api.create(PATH, body, limit=self.post_timeout)
        if response.status_code not in (200, 201, 202):
            raise answers.create_error(response)
        volume = json_object(response)
        if volume is None or not text(volume.get("id")) or volume.get("name") != name:
            raise CloudUnknown("RunPod accepted the network volume without telling its id")
        return _volume(volume, [])

    def grow(self, volume_id: str, size_gb: float) -> None:
        """Make a volume larger: asked twice it is no larger than asked once, yet an answer that is lost is not guessed."""
        path = f"{PATH}/{path_id('RunPod', volume_id)}"
        response = self.api.create(path, {"size": ceil(size_gb)}, limit=self.post_timeout, method="PATCH")
        if response.status_code != 200:
            raise answers.refusal(response, f"enlarge network volume {volume_id}")

    def delete(self, volume_id: str) -> None:
        """Ask RunPod to delete a volume."""
        response = self.api.delete(f"{PATH}/{path_id('RunPod', volume_id)}")
        if response.status_code not in (200, 202, 204) and not answers.told_gone(response):
            raise answers.refusal(response, f"delete network volume {volume_id}")


def month_of(entry: Mapping[str, object]) -> float | None:
    """Return the dollars a month of a volume; None where its tier's price is not known."""
    size = number(entry.get("size"))
    return None if size is None or entry.get("type", TYPE) != TYPE else catalog.volume_month(size)


def _volume(entry: Mapping[str, object], pods: Sequence[str]) -> NetworkVolume:
    return NetworkVolume(
        str(entry.get("id")), str(entry.get("name")), str(entry.get("dataCenter")), number(entry.get("size")), month_of(entry), tuple(pods)
    )


def _mounted(pod: Mapping[str, object]) -> builtins.list[str]:
    if pod.get("status") == answers.GONE:
        return []
    networks = mapping(pod.get("mounts")).get("network")
    return [str(mapping(mount).get("volumeId")) for mount in networks] if isinstance(networks, builtins.list) else []


def _texts(value: object) -> Sequence[object]:
    return value if isinstance(value, builtins.list) else ()
