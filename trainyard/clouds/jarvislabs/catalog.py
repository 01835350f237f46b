"""JarvisLabs' list of GPUs as offers, and the create request of one. Makes no request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainyard.clouds import gpus
from trainyard.clouds.jarvislabs.answers import is_vm, numeral
from trainyard.clouds.marker import short_name
from trainyard.clouds.offers import affordable, check_gpus, no_region
from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.clouds.values import text
from trainyard.errors import CloudRefused, UserError

Row = Mapping[str, object]
HOSTS = {
    "india-noida-01": "https://backendn.jarvislabs.net",
    "india-chennai-01": "https://backendc.jarvislabs.net",
    "europe-01": "https://backendeu.jarvislabs.net",
}
"""Of each region, where its machines are made and ended; the first also answers what is read. In order of preference."""
HOME = next(iter(HOSTS))
CODES = {"IN2": "india-noida-01", "IN1": "india-chennai-01", "EU1": "europe-01"}
_ONLY = {"europe-01": (("H100", "H200"), 1)}
"""Regions that have certain GPUs alone, and so many in one machine."""


@dataclass(frozen=True, slots=True)
class JarvisChoice:
    """An offer's id taken apart."""

    gpu: str
    region: str
    count: int
    spot: bool

    def __str__(self) -> str:
        return "|".join((self.gpu, self.region, str(self.count), "spot" if self.spot else ""))


def parse_choice(offer_id: str) -> JarvisChoice:
    """Return the parts of an offer's id; raises UserError for an id that this cloud did not make."""
    parts = offer_id.split("|")
    if len(parts) != 4 or parts[1] not in HOSTS or not parts[2].isdigit() or parts[3] not in ("spot", ""):
        raise UserError(f"'{offer_id}' is no offer of JarvisLabs")
    return JarvisChoice(parts[0], parts[1], int(parts[2]), parts[3] == "spot")


def offers(query: OfferQuery, rows: Sequence[Row]) -> list[Offer]:
    """Return what has enough free GPUs, in the query's order of preference, cheapest first within each GPU."""
    if not query.gpus:
        raise UserError("JarvisLabs tells no price of machines without a GPU, so none is rented there", hint="Name a 'gpu'.")
    regions = _regions(query.regions)
    names = [(str(row.get("gpu_type") or ""),) for row in rows]
    check_gpus(query.gpus, names)
    fitting: list[Offer] = []
    for gpu in query.gpus:
        some = [offer for index in gpus.match(gpu, names) if (offer := _offer(query, rows[index], regions)) is not None]
        fitting += sorted(some, key=lambda offer: offer.price_per_hour)
    return list({offer.id: offer for offer in reversed(fitting)}.values())[::-1]


def prices(rows: Sequence[Row]) -> dict[tuple[str, str, bool], float]:
    """Return the dollars an hour of one GPU by its type, its region and whether it is spot; what is told twice and differs is left out."""
    listed: dict[tuple[str, str, bool], set[float]] = {}
    for row in rows:
        for spot in (False, True):
            price = _price(row, spot)
            if price is not None and row.get("workload_type") != "vm":
                listed.setdefault((str(row.get("gpu_type")), str(row.get("region")), spot), set()).add(price)
    return {key: next(iter(values)) for key, values in listed.items() if len(values) == 1}


def hourly(row: Row, known: Mapping[tuple[str, str, bool], float]) -> float | None:
    """Return the dollars an hour of an instance that runs, reckoned from today's prices: no instance tells its own."""
    count = numeral(row.get("num_gpus"))
    each = known.get((str(row.get("gpu_type")), str(row.get("region")), row.get("is_spot") is True))
    return None if count is None or each is None or is_vm(row) else round(each * count, 6)


def create_body(spec: PodSpec, choice: JarvisChoice) -> dict[str, object]:
    """Return the body of a create request; raises CloudRefused for what it has no place for."""
    for name in spec.env:
        if not name.startswith("TRAINYARD_"):  # those are the watchdog's, which gets them over SSH
            raise CloudRefused(f"JarvisLabs takes no variables for a machine: '{name}' of pod_env cannot be set; nothing was sent")
    try:
        name = short_name(spec.name, spec.stop, spec.end)
    except ValueError as error:
        raise CloudRefused(f"{error}; nothing was sent") from None
    return {
        "gpu_type": choice.gpu, "num_gpus": choice.count, "hdd": spec.disk_gb, "region": choice.region, "name": name,
        "is_spot": choice.spot, "duration": "hour", "disk_type": "ssd", "http_ports": "", "script_id": None, "script_args": "",
        "fs_id": None, "arguments": "",
    }  # fmt: skip


def _offer(query: OfferQuery, row: Row, regions: frozenset[str]) -> Offer | None:
    gpu, region, price = str(row.get("gpu_type")), str(row.get("region")), _price(row, query.spot)
    allowed, most = _ONLY.get(region, ((gpu,), query.gpu_count))
    if region not in regions or price is None or row.get("workload_type") not in ("container", None, ""):
        return None
    if gpu not in allowed or query.gpu_count > most or _free(row, query.spot) < query.gpu_count:
        return None
    memory = re.match(r"\s*\d+", str(row.get("vram")))
    if not gpus.has_memory(float(memory[0]) if memory else None, query.min_vram_gb):
        return None
    choice = JarvisChoice(gpu, region, query.gpu_count, query.spot)
    offer = Offer(str(choice), "jarvislabs", gpu, query.gpu_count, round(price * query.gpu_count, 6), region, query.spot)
    return offer if affordable(query, offer) else None


def _free(row: Row, spot: bool) -> float:
    """Return how many GPUs can be rented now."""
    special = numeral(row.get("spot_num_free_devices" if spot else "effective_num_free_devices"))
    return special if special is not None else numeral(row.get("num_free_devices")) or 0.0


def _price(row: Row, spot: bool) -> float | None:
    """Return the dollars an hour of one GPU; nothing is free, so a zero tells none."""
    price = numeral(row.get("spot_price" if spot else "price_per_hour"))
    return price if price is not None and price > 0 and text(row.get("gpu_type")) else None


def _regions(asked: Sequence[str]) -> frozenset[str]:
    chosen = {CODES.get(name.upper(), name.lower()) for name in asked} or set(HOSTS)
    for name in chosen - set(HOSTS):
        raise no_region("JarvisLabs", name, (*CODES, *HOSTS))
    return frozenset(chosen)
