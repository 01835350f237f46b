"""io.net's hardware, locations and prices as offers. Makes no request of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from trainyard.clouds import gpus
from trainyard.clouds.offers import check_gpus
from trainyard.clouds.protocol import OfferQuery
from trainyard.clouds.values import number, text
from trainyard.errors import UserError

Row = Mapping[str, object]
MARGIN = timedelta(minutes=15)
"""By what the paid time is longer than the lease at least: a reaper looks before anything that io.net does at the end of what was paid."""


@dataclass(frozen=True, slots=True)
class HardwareChoice:
    """What is asked for: an offer's id taken apart."""

    hardware: int
    location: int
    count: int

    def __str__(self) -> str:
        return f"{self.hardware}@{self.location}x{self.count}"


@dataclass(frozen=True, slots=True)
class FreePlace:
    """Where some hardware is free, and how it is called there."""

    choice: HardwareChoice
    gpu: str
    region: str


def parse_choice(offer_id: str) -> HardwareChoice:
    """Return the parts of an offer's id; raises UserError for an id that this cloud did not make."""
    hardware, _, rest = offer_id.partition("@")
    location, _, count = rest.partition("x")
    if not (hardware.isdigit() and location.isdigit() and count.isdigit()):
        raise UserError(f"'{offer_id}' is no offer of io.net")
    return HardwareChoice(int(hardware), int(location), int(count))


def whole_hours(lease: timedelta) -> int:
    """Return the hours to pay for a lease of some length: whole ones."""
    return max(1, math.ceil((lease + MARGIN) / timedelta(hours=1)))


def hardware_for(query: OfferQuery, hardware: Sequence[Row], most: str) -> Iterator[tuple[int, str, int]]:
    """Yield hardware in the query's order of preference: its rank, its name and its id."""
    names = [(str(row.get("hardware_name") or ""),) for row in hardware]
    check_gpus(query.gpus, names)
    taken: set[int] = set()
    for rank, gpu in enumerate(query.gpus):
        for index in gpus.match(gpu, names):
            row, kinds = hardware[index], gpus.types_of(names[index])
            identity, most_gpus, free = (number(row.get(key)) for key in ("hardware_id", most, "available"))
            memory = min((kind.vram_gb for kind in kinds), default=None)
            enough = gpus.has_memory(memory, query.min_vram_gb) and (most_gpus or 0) >= query.gpu_count
            if identity is not None and enough and free != 0 and int(identity) not in taken:
                taken.add(int(identity))
                yield rank, names[index][0], int(identity)


def places(query: OfferQuery, gpu: str, hardware: int, rooms: Sequence[Row]) -> Iterator[FreePlace]:
    """Yield the locations with something free, of the regions that are asked for."""
    regions = {region.lower() for region in query.regions}
    for room in rooms:
        location, free = number(room.get("id")), number(room.get("available_replicas"))
        called = {name.lower() for key in ("iso2", "name") if (name := text(room.get(key)))}
        if location is not None and (free or 0) >= 1 and (not regions or regions & called):
            region = text(room.get("iso2")) or text(room.get("name")) or str(int(location))
            yield FreePlace(HardwareChoice(hardware, int(location), query.gpu_count), gpu, region)
