"""Vast.ai's marketplace: what is asked of a search, and its answers as offers in the user's order of preference. Makes no request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trainyard.clouds import gpus
from trainyard.clouds.offers import affordable, no_region
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.clouds.values import number, price_of, text
from trainyard.clouds.vast.request import offer_id

RELIABILITY = 0.95
"""Least reliability (0 to 1) of a host unless another is asked for."""
INET_DOWN = 100.0
"""Least Mbit/s at which a host downloads unless others are asked for: an image has 10 GB."""
TRAFFIC = 0.03
"""Most dollars for a GB in or out: how much goes through the network nobody knows before, and some hosts take ten times as much."""
BID = 1.1
"""What is bid for each dollar of the least bid: who bids the least is outbid by the next cent."""
MARGIN = 600.0
"""Seconds that an offer must last beyond what is asked: from the search to the lease's begin."""
MOST = 500
"""Offers of a search."""
_HOURS_A_MONTH = 720.0
REGIONS: Mapping[str, str] = {
    "EU": "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK",
    "EUROPE": "AL AT BA BE BG BY CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS SE SI SK UA",
    "NORTH AMERICA": "CA MX US",
    "SOUTH AMERICA": "AR BO BR CL CO EC PE PY UY VE",
    "ASIA": "AE AM AZ BD BH GE HK ID IL IN JO JP KH KR KW KZ LK MN MO MY NP OM PH PK QA SA SG TH TR TW UZ VN",
    "AFRICA": "DZ EG GH KE MA MU NG RW SN TN UG ZA",
    "OCEANIA": "AU NZ",
}  # fmt: skip
"""Countries by the words that mean several of them."""


def search_body(query: OfferQuery, names: Sequence[str]) -> dict[str, object]:
    """Return the body of ``POST /bundles/``. The disk is a part of the prices that are answered."""
    least: dict[str, float] = {
        "direct_port_count": 1,
        "disk_space": query.disk_gb,
        "reliability": RELIABILITY if query.reliability is None else query.reliability,
        "inet_down": INET_DOWN if query.inet_down is None else query.inet_down,
    }
    if query.hours is not None:
        least["duration"] = query.hours * 3600 + MARGIN
    if query.min_cuda:
        least["cuda_max_good"] = float(query.min_cuda)
    body: dict[str, object] = {key: {"gte": value} for key, value in least.items()}
    body |= {key: {"eq": value} for key, value in _exactly(query).items()}
    body |= {"gpu_name": {"in": list(names)}, "type": "bid" if query.spot else "ondemand", "allocated_storage": query.disk_gb}
    body |= {"order": [["dph_total", "asc"]], "limit": MOST, "inet_down_cost": {"lte": TRAFFIC}, "inet_up_cost": {"lte": TRAFFIC}}
    if query.max_price is not None:
        body["dph_total"] = {"lte": query.max_price}
    if query.regions:
        body["geolocation"] = {"in": list(countries(query.regions))}
    return body


def asked_for(query: OfferQuery) -> dict[str, object]:
    """Return the parts of a search that a create request does not have: it names an ask, and whose that is nobody sees."""
    gpus_asked = list(query.gpus)
    asked = {"gpu_type": gpus_asked[0] if len(gpus_asked) == 1 else gpus_asked, "num_gpus": query.gpu_count, "price_max": query.max_price}
    return {**asked, "regions": list(query.regions), "spot": query.spot}


def countries(regions: Sequence[str]) -> tuple[str, ...]:
    """Return the two-letter codes that region names stand for; raises UserError for one that means nothing."""
    codes: list[str] = []
    for region in (" ".join(r.upper().replace("_", " ").replace("-", " ").split()) for r in regions):
        if len(region) != 2 and region not in REGIONS:
            raise no_region("Vast.ai", region, REGIONS, hint=f"A country's two letters, or: {', '.join(REGIONS)}.")
        codes += REGIONS.get(region, region).split()
    return tuple(dict.fromkeys(codes))


def names_of(query: OfferQuery, catalog: Sequence[str]) -> list[str]:
    """Return the marketplace's names that may be what is asked: which memory they have, only an offer tells."""
    return [
        name
        for name in dict.fromkeys(catalog)
        if any(set(gpus.types_of((name,))) & set(gpus.find(asked)) or gpus.match(asked, [(name,)]) for asked in query.gpus)
    ]


def sort_offers(query: OfferQuery, rows: Sequence[Mapping[str, object]]) -> list[Offer]:
    """Return what fits: GPUs in the query's order, the cheapest of each first, none above its highest price."""
    fitting = [
        (row, offer) for row in rows if (offer := _offer(query, row)) is not None and affordable(query, offer) and _holds(query, row)
    ]
    # The same name may be had with 40 GB and with 80.
    names = [_names(row) for row, _ in fitting]
    ordered: dict[str, Offer] = {}
    for asked in query.gpus:
        hits = sorted(gpus.match(asked, names), key=lambda index: fitting[index][1].price_per_hour)
        ordered |= {fitting[index][1].id: fitting[index][1] for index in hits if fitting[index][1].id not in ordered}
    return list(ordered.values())


def _exactly(query: OfferQuery) -> dict[str, object]:
    exactly: dict[str, object] = {"num_gpus": query.gpu_count, "rentable": True, "rented": False, "external": False, "cpu_arch": "amd64"}
    tier = (query.tier or "COMMUNITY").upper()
    if tier not in ("ALL", "ANY"):
        exactly["verified"] = True
    if tier == "SECURE":
        exactly["datacenter"] = True
    return exactly


def _offer(query: OfferQuery, row: Mapping[str, object]) -> Offer | None:
    """Return a row as an offer at the price of the whole pod with its disk, None for one that cannot be rented as asked."""
    ask, base, total = number(row.get("id")), price_of(row.get("dph_base")), price_of(row.get("dph_total"))
    gpu, count = text(row.get("gpu_name")), number(row.get("num_gpus"))
    if not ask or not total or not gpu or count != query.gpu_count or row.get("rentable") is False:
        return None
    bid, price = None, total
    if query.spot:
        least = price_of(row.get("min_bid"))
        if not least:
            return None
        bid = math.ceil(round(least * BID * 100, 6)) / 100
        disk = (price_of(row.get("storage_cost")) or 0.0) * query.disk_gb / _HOURS_A_MONTH
        price = bid + max(disk, total - base if base else 0.0)
    region = (text(row.get("geolocation")) or "").rpartition(",")[2].strip() or None
    return Offer(
        offer_id(int(ask), bid), "vast", gpu, query.gpu_count, round(price, 6), region, query.spot, text(row.get("verification")),
        gb_in=price_of(row.get("inet_down_cost")), gb_out=price_of(row.get("inet_up_cost")),
    )  # fmt: skip


def _names(row: Mapping[str, object]) -> tuple[str, ...]:
    """Return what a row's GPU is called: by its name, and with the memory that its driver reports."""
    name, reported = str(row.get("gpu_name")), number(row.get("gpu_ram"))
    return (name, f"{name} {round(reported / 1024)}GB") if reported else (name,)


def _holds(query: OfferQuery, row: Mapping[str, object]) -> bool:
    """Tell whether a GPU has the memory that is needed: as its maker states it, for a driver reports less (a T4 has 15 of its 16 GB)."""
    reported = number(row.get("gpu_ram"))
    stated = [kind.vram_gb for kind in gpus.find(_names(row)[-1])] if reported else []
    return gpus.has_memory(max([reported / 1024, *stated]) if reported else None, query.min_vram_gb)
