"""What the rehearsal rents out, in the shape of io.net's hardware and locations; prices only have to be plausible."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HardwareType:
    """One type of GPU; dollars an hour for each."""

    id: int
    name: str
    memory_gb: int
    price: float
    places: tuple[int, ...]
    most: int = 8
    brand: str = "NVIDIA"


@dataclass(frozen=True, slots=True)
class HardwarePlace:
    """One location; ``factor``: by what its prices differ."""

    id: int
    iso2: str
    name: str
    factor: float = 1.0

    def shown(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {"id": self.id, "iso2": self.iso2, "name": self.name}


PLACES = (HardwarePlace(1, "US", "United States"), HardwarePlace(2, "FI", "Finland", 0.9), HardwarePlace(7, "IN", "India", 0.8))
TYPES = (
    HardwareType(203, "GeForce RTX 4090", 24, 0.44, (1, 2)),
    HardwareType(218, "GeForce RTX 5090", 32, 0.72, (1, 7)),
    HardwareType(201, "L40S", 48, 0.9, (2,)),
    HardwareType(184, "A100 SXM4 80GB", 80, 1.3, (1,)),
    HardwareType(211, "H100 PCIe", 80, 1.7, (2,), most=4),
    HardwareType(212, "H100 SXM", 80, 2.1, (1, 2, 7)),
)


def type_of(hardware_id: object) -> HardwareType | None:
    """Return a type by its id."""
    return next((kind for kind in TYPES if kind.id == hardware_id), None)


def place_of(location_id: object) -> HardwarePlace | None:
    """Return a location by its id."""
    return next((place for place in PLACES if place.id == location_id), None)
