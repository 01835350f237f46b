"""RunPod's catalog as offers: prices, stock, data centers, in the user's order of preference. Makes no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainyard.clouds import gpus
from trainyard.clouds.offers import affordable
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.clouds.runpod.request import Choice
from trainyard.clouds.values import mapping, number, price_of
from trainyard.errors import UserError
from trainyard.settings.table import TIER

TIERS = ("SECURE", "COMMUNITY")
HOURS_A_MONTH = 730.0
_STOCK = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}

DISK_MONTH = 0.10
STOPPED_DISK_MONTH = 0.20


def volume_month(gigabytes: float) -> float:
    """Return the monthly price in dollars of a network volume."""
    return gigabytes * (0.07 if gigabytes < 1000 else 0.05)


def tiers(query: OfferQuery) -> tuple[str, ...]:
    """Return the tiers that a query allows; RunPod's own default is SECURE."""
    tier = (query.tier or TIER).upper()
    if tier in ("ALL", "ANY"):
        return TIERS
    if tier not in TIERS:
        raise UserError(f"'{query.tier}' is no tier of RunPod", hint="Tiers: SECURE, COMMUNITY, or ALL for both.")
    return (tier,)


def gpu_offers(query: OfferQuery, tier: str, catalog: Sequence[Mapping[str, object]], centers: frozenset[str] | None) -> list[Offer]:
    """Return the offers of one tier; ``centers``: the data centers allowed, None for all."""
    matching: list[Offer] = []
    for asked_gpu in query.gpus:
        for index in gpus.match(asked_gpu, names(catalog)):
            matching += _entry_offers(query, tier, catalog[index], centers)
    seen: dict[str, Offer] = {offer.id: offer for offer in reversed(matching)}
    # A spot pod's price is not in the catalog: what its limit allows may cost more than the limit otherwise.
    return [offer for offer in dict.fromkeys(seen[o.id] for o in matching) if query.spot or affordable(query, offer)]


def names(catalog: Sequence[Mapping[str, object]]) -> list[tuple[str, ...]]:
    """Return how the catalog calls each of its GPUs."""
    return [(str(entry.get("id", "")), str(entry.get("name", ""))) for entry in catalog]


def cpu_offers(query: OfferQuery, catalog: Sequence[Mapping[str, object]], centers: frozenset[str] | None) -> list[Offer]:
    """Return pods without GPU: four processors of each flavor (or its least), cheapest first."""
    matching = []
    for entry in catalog:
        vcpu, price = mapping(entry.get("vcpu")), mapping(entry.get("price"))
        count = int(max(4.0, number(vcpu.get("min")) or 2.0))
        each = price_of(price.get("securePerVcpu"))
        if not each or entry.get("availability") == "NONE":
            continue
        for region in _centers(entry, centers):
            choice = Choice("cpu", str(entry.get("id")), count, "SECURE", region)
            offer = Offer(str(choice), "runpod", None, 0, round(each * count, 6), region or None, tier="SECURE")
            if affordable(query, offer):
                matching.append(offer)
    return sorted(matching, key=lambda offer: offer.price_per_hour)


def _entry_offers(query: OfferQuery, tier: str, entry: Mapping[str, object], centers: frozenset[str] | None) -> list[Offer]:
    key = tier.lower()
    most = number(mapping(entry.get("maxCount")).get(key))
    each = price_of(mapping(entry.get("price")).get(key))
    if entry.get(key) is False or not each or entry.get("availability") == "NONE" or (most is not None and query.gpu_count > most):
        return []
    if not gpus.has_memory(number(entry.get("memory")), query.min_vram_gb):
        return []
    return [
        Offer(
            id=str(Choice("gpu", str(entry["id"]), query.gpu_count, tier, region, query.min_cuda or "")),
            cloud="runpod",
            gpu=str(entry["id"]),
            gpu_count=query.gpu_count,
            price_per_hour=round(each * query.gpu_count, 6),
            region=region or None,
            tier=tier,
        )
        for region in _centers(entry, centers)
    ]


def _centers(entry: Mapping[str, object], allowed: frozenset[str] | None) -> list[str]:
    """Return data centers, best stock first; '' leaves the choice to RunPod."""
    listed = entry.get("dataCenters")
    rows = [mapping(row) for row in listed] if isinstance(listed, list) else []
    if not rows:
        return [] if allowed is not None else [""]
    usable = [row for row in rows if row.get("availability") in _STOCK and (allowed is None or row.get("id") in allowed)]
    usable.sort(key=lambda row: _STOCK[str(row["availability"])])
    return [str(row["id"]) for row in usable]
