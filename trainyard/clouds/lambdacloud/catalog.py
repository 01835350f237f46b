"""Lambda's types of instances as offers, in the user's order of preference. Makes no request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from trainyard.clouds import gpus
from trainyard.clouds.lambdacloud.answers import hourly
from trainyard.clouds.offers import affordable, check_gpus
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.clouds.values import mapping, number
from trainyard.errors import UserError

_DESCRIPTION = re.compile(r"^(?P<gpu>.+?) \((?P<gb>\d+) GB(?: (?P<form>\w+))?\)$")
"""``H100 (80 GB SXM5)``"""


def offers(query: OfferQuery, items: Sequence[Mapping[str, object]], regions: frozenset[str] | None) -> list[Offer]:
    """Return what can be launched now; ``regions``: those allowed, None for all."""
    names = [_names(item) for item in items]
    check_gpus(query.gpus, names)
    chosen = [i for gpu in query.gpus for i in gpus.match(gpu, names)] if query.gpus else range(len(items))
    fitting = [offer for i in dict.fromkeys(chosen) for offer in _of_type(query, items[i], regions)]
    return fitting if query.gpus else sorted(fitting, key=lambda offer: offer.price_per_hour)


def choice(offer_id: str) -> tuple[str, str]:
    """Return type and region of an offer's id; raises UserError for an id that this cloud did not make."""
    kind, bar, region = offer_id.partition("|")
    if not kind or not bar or not region or "|" in region:
        raise UserError(f"'{offer_id}' is no offer of Lambda")
    return kind, region


def _of_type(query: OfferQuery, item: Mapping[str, object], regions: frozenset[str] | None) -> list[Offer]:
    kind = mapping(item.get("instance_type"))
    specs, price = mapping(kind.get("specs")), hourly(kind)
    count = int(number(specs.get("gpus")) or 0)
    if price is None or count != (query.gpu_count if query.gpus else 0):
        return []
    described, disk = _DESCRIPTION.match(str(kind.get("gpu_description"))), number(specs.get("storage_gib"))
    if not gpus.has_memory(float(described["gb"]) if described else None, query.min_vram_gb):
        return []
    if disk is not None and disk * 1.074 < query.disk_gb:  # GiB; a type's disk is as large as it is
        return []
    listed = item.get("regions_with_capacity_available")
    places = [str(mapping(region).get("name")) for region in listed] if isinstance(listed, list) else []
    gpu = str(kind.get("gpu_description")) if count else None
    there = [Offer(f"{kind.get('name')}|{place}", "lambda", gpu, count, price, place) for place in places]
    return [offer for offer in there if (regions is None or offer.region in regions) and affordable(query, offer)]


def _names(item: Mapping[str, object]) -> tuple[str, ...]:
    kind = mapping(item.get("instance_type"))
    return str(kind.get("gpu_description") or ""), str(kind.get("name") or "")
