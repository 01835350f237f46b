"""Network volumes as far as a cloud rents them out: what lies on one stays when its pods are gone, and costs money by the month.

The errors are those of pods: CloudRefused and NoCapacity mean that nothing was created, CloudUnknown that something may have been.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from trainyard.clouds.protocol import Cloud


@dataclass(frozen=True, slots=True)
class NetworkVolume:
    """One volume of the account. ``id`` is what PodSpec.volume takes."""

    id: str
    name: str
    place: str
    """The data center or region that it lies in: nowhere else can it be mounted."""
    size_gb: float | None
    per_month: float | None
    """Dollars; None where they are not known."""
    attached: tuple[str, ...] = ()
    """Ids of the pods, stopped ones too, that mount it; where the cloud tells only that there are some: one empty text."""


@dataclass(frozen=True, slots=True)
class VolumeTerms:
    """What a cloud's volumes can be."""

    least_gb: float
    most_gb: float
    grows: bool
    """One that is there can be made larger. None can be made smaller."""
    by_use: bool = False
    """It has no size of its own: what lies in it is paid for."""


class KeepsVolumes(Protocol):
    """The volumes of one account."""

    terms: VolumeTerms

    def list(self) -> builtins.list[NetworkVolume]:
        """Return every volume of the account. Raises CloudError rather than a partial list."""
        ...

    def places(self) -> frozenset[str]:
        """Return where volumes of a known price can be made."""
        ...

    def per_month(self, size_gb: float) -> float | None:
        """Return the dollars a month of a volume of that size, or that holds so much; None where they are not known."""
        ...

    def create(self, name: str, place: str, size_gb: float) -> NetworkVolume:
        """Create one volume; never repeats the request blindly. Raises as Cloud.create does."""
        ...

    def grow(self, volume_id: str, size_gb: float) -> None:
        """Make a volume larger; CloudError where it is not."""
        ...

    def delete(self, volume_id: str) -> None:
        """Ask the cloud to delete a volume with all that lies on it; one that is gone is success. Proof is by list()."""
        ...


@runtime_checkable
class RentsVolumes(Protocol):
    """A cloud that has volumes."""

    def volumes(self) -> KeepsVolumes:
        """Return the account's volumes. Makes no request."""
        ...


def volumes_of(cloud: Cloud) -> KeepsVolumes | None:
    """Return the volumes of a cloud's account; None where the cloud has none."""
    return cloud.volumes() if isinstance(cloud, RentsVolumes) else None
