"""Lambda's file systems: bound to a region, without a size of their own, billed by what lies in them. The API tells no price."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trainyard.clouds.http import Api
from trainyard.clouds.lambdacloud import answers
from trainyard.clouds.values import json_object, mapping, number, path_id, text
from trainyard.clouds.volumes import NetworkVolume, VolumeTerms
from trainyard.errors import CloudRefused, CloudUnknown

MOUNT = "/lambda/nfs/trainyard"
"""Where a pod has its file system, whatever that is called."""
Entries = Sequence[Mapping[str, object]]


@dataclass(slots=True)
class LambdaVolumes:
    """The file systems of one account; ``entries`` returns complete lists or raises."""

    api: Api
    post_timeout: float
    entries: Callable[[str, str], Entries]
    terms: VolumeTerms = VolumeTerms(least_gb=0, most_gb=8_000_000, grows=False, by_use=True)  # noqa: RUF009 - frozen

    def list(self) -> builtins.list[NetworkVolume]:
        """Return every file system, with the instances that mount it."""
        systems = self.entries("/file-systems", "list file systems")
        used = any(system.get("is_in_use") is not False for system in systems)
        return [file_system(system, self.entries("/instances", "list instances") if used else ()) for system in systems]

    def places(self) -> frozenset[str]:
        """Return the regions."""
        return frozenset(str(region.get("name")) for region in self.entries("/regions", "list regions"))

    def per_month(self, size_gb: float) -> None:
        """Return None: what a GB costs is told in Lambda's dashboard alone."""
        return None

    def create(self, name: str, place: str, size_gb: float) -> NetworkVolume:
        """Create one file system, with at most one request that Lambda may have accepted; it takes whatever is put there."""
        response = self.api.create("/filesystems", {"name": name, "region": place}, limit=self.post_timeout)
        system = mapping((json_object(response) or {}).get("data"))
        if response.status_code != 200:
            raise answers.create_error(response)
        if not text(system.get("id")) or system.get("name") != name:
            raise CloudUnknown("Lambda accepted the file system without telling its id")
        return file_system(system, ())

    def grow(self, volume_id: str, size_gb: float) -> None:
        """Refuse: a file system has no size."""
        raise CloudRefused("Lambda's file systems have no size that could be changed")

    def delete(self, volume_id: str) -> None:
        """Ask Lambda to delete a file system; one that is mounted it refuses to."""
        response = self.api.delete(f"/filesystems/{path_id('Lambda', volume_id)}")
        if response.status_code != 200 and not answers.told_gone(response):
            raise answers.refusal(response, f"delete file system {volume_id}")


def file_system(entry: Mapping[str, object], instances: Entries) -> NetworkVolume:
    """Return a file system; of one that is in use by whom nobody tells, somebody is named by an empty text."""
    name, used = str(entry.get("name")), number(entry.get("bytes_used"))
    pods = [str(one.get("id")) for one in instances if name in _texts(one.get("file_system_names")) and one.get("status") != answers.GONE]
    attached = tuple(pods) or (("",) if entry.get("is_in_use") else ())
    place = str(mapping(entry.get("region")).get("name"))
    return NetworkVolume(str(entry.get("id")), name, place, None if used is None else round(used / 1e9, 1), None, attached)


def _texts(value: object) -> Sequence[object]:
    return value if isinstance(value, builtins.list) else ()
