"""Prime Intellect's availability as offers, and the create request of one. Makes no request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainyard.clouds import gpus
from trainyard.clouds.marker import timed_name
from trainyard.clouds.offers import affordable, check_gpus, no_region
from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.clouds.values import mapping, number, price_of, text
from trainyard.errors import UserError
from trainyard.settings.table import TIER

Entry = Mapping[str, object]
IMAGE = "ubuntu_22_cuda_12"
REGIONS = (
    "africa", "asia_south", "asia_northeast", "australia", "canada", "eu_east", "eu_north", "eu_west", "middle_east", "south_america",
    "united_states",
)  # fmt: skip
_TIERS = {"SECURE": ("secure_cloud",), "COMMUNITY": ("community_cloud",), "ALL": ("secure_cloud", "community_cloud")}
_WITHOUT_GPU = "CPU_NODE"


@dataclass(frozen=True, slots=True)
class BrokeredChoice:
    """An offer's id taken apart: what finds its entry in the availability again, and the disk it was priced with."""

    provider: str
    cloud_id: str
    gpu: str
    socket: str
    center: str
    security: str
    spot: bool
    count: int
    disk_gb: int

    def __str__(self) -> str:
        texts = (self.provider, self.cloud_id, self.gpu, self.socket, self.center, self.security, "spot" if self.spot else "")
        return "|".join((*texts, str(self.count), str(self.disk_gb)))

    def is_of(self, entry: Entry) -> bool:
        """Tell whether an entry is the one that was offered."""
        return _choice(entry, self.disk_gb) == self


def parse_choice(offer_id: str) -> BrokeredChoice:
    """Return the parts of an offer's id; raises UserError for an id that this cloud did not make."""
    parts = offer_id.split("|")
    if len(parts) != 9 or not parts[7].isdigit() or not parts[8].isdigit():
        raise UserError(f"'{offer_id}' is no offer of Prime Intellect")
    provider, cloud, gpu, socket, center, security, spot, count, disk = parts
    return BrokeredChoice(provider, cloud, gpu, socket, center, security, spot == "spot", int(count), int(disk))


def offers(query: OfferQuery, entries: Sequence[Entry]) -> list[Offer]:
    """Return what can be rented by the hour, in the query's order of preference, cheapest first within each GPU."""
    names = [_names(entry) for entry in entries]
    check_gpus(query.gpus, names)
    _check_regions(query.regions, entries)
    fitting: list[Offer] = []
    for gpu in query.gpus or ("",):
        chosen = gpus.match(gpu, names) if gpu else [i for i, entry in enumerate(entries) if entry.get("gpuType") == _WITHOUT_GPU]
        some = [offer for i in chosen if (offer := _offer(query, entries[i])) is not None]
        fitting += sorted(some, key=lambda offer: offer.price_per_hour)
    return list({offer.id: offer for offer in reversed(fitting)}.values())[::-1]


def pod_body(choice: BrokeredChoice, entry: Entry) -> dict[str, object]:
    """Return what of a create request comes from the offer's own entry."""
    body: dict[str, object] = {
        "cloudId": choice.cloud_id, "gpuType": choice.gpu, "socket": choice.socket, "gpuCount": choice.count, "autoRestart": False,
        "image": _image(entry), "dataCenterId": text(entry.get("dataCenter")), "country": text(entry.get("country")),
        "security": choice.security, "diskSize": _disk(entry, choice.disk_gb)[0], "vcpus": _usual(entry, "vcpu"),
        "memory": _usual(entry, "memory"),
    }  # fmt: skip
    return {key: value for key, value in body.items() if value is not None}


def create_body(spec: PodSpec, choice: BrokeredChoice, entry: Entry, team: str | None) -> dict[str, object]:
    """Return the body of a create request, without the key that may log in: the account gives that its id."""
    pod = {**pod_body(choice, entry), "name": timed_name(spec.name, spec.stop, spec.end)}
    if spec.template:
        pod |= {"image": "custom_template", "customTemplateId": spec.template}
    env = {key: value for key, value in spec.env.items() if not key.startswith("TRAINYARD_")}
    if env:
        pod["envVars"] = [{"key": key, "value": value} for key, value in sorted(env.items())]
    whose = {"team": {"teamId": team}} if team else {}
    return {"pod": pod, "provider": {"type": choice.provider}, **whose}


def _offer(query: OfferQuery, entry: Entry) -> Offer | None:
    tier = (query.tier or TIER).upper()
    if tier not in _TIERS:
        raise UserError(f"'{query.tier}' is no tier of Prime Intellect", hint=f"Tiers: {', '.join(_TIERS)}.")
    count = int(number(entry.get("gpuCount")) or 0)
    # Reserved capacity is charged for all of its hours at once, whether used or not.
    if entry.get("stockStatus") == "Unavailable" or entry.get("prepaidTime") or entry.get("security") not in _TIERS[tier]:
        return None
    if bool(entry.get("isSpot")) != query.spot or (query.gpus and count != query.gpu_count) or _image(entry) is None:
        return None
    if not gpus.has_memory(number(entry.get("gpuMemory")), query.min_vram_gb if query.gpus else None):
        return None
    if query.regions and not {region.lower() for region in query.regions} & _places(entry):
        return None
    size, extra = _disk(entry, query.disk_gb)
    price = _price(entry)
    if price is None or extra is None or (size is not None and size < query.disk_gb):
        return None
    gpu, where = text(entry.get("gpuType")), text(entry.get("dataCenter")) or text(entry.get("country"))
    offer = Offer(
        id=str(_choice(entry, query.disk_gb)), cloud="prime", gpu=gpu if query.gpus else None, gpu_count=count if query.gpus else 0,
        price_per_hour=round(price + extra, 6), region=where, spot=query.spot, tier=str(entry.get("security")),
    )  # fmt: skip
    return offer if affordable(query, offer) else None


def _choice(entry: Entry, disk_gb: int) -> BrokeredChoice:
    texts = (str(entry.get(key) or "") for key in ("provider", "cloudId", "gpuType", "socket", "dataCenter", "security"))
    provider, cloud, gpu, socket, center, security = texts
    count = int(number(entry.get("gpuCount")) or 0)
    return BrokeredChoice(provider, cloud, gpu, socket, center, security, bool(entry.get("isSpot")), count, disk_gb)


def _price(entry: Entry) -> float | None:
    """Return dollars an hour; prices in another currency are not compared with dollars."""
    prices = mapping(entry.get("prices"))
    if prices.get("currency") != "USD":
        return None
    each = {"secure_cloud": prices.get("onDemand"), "community_cloud": prices.get("communityPrice")}
    return price_of(each.get(str(entry.get("security")))) or None


def _disk(entry: Entry, disk_gb: int) -> tuple[int | None, float | None]:
    """Return the GB to ask for (None: nothing is told of a disk) and dollars an hour beside the price (None: it cannot be so large)."""
    spec = mapping(entry.get("disk"))
    least, usual, most = (number(spec.get(key)) for key in ("minCount", "defaultCount", "maxCount"))
    if least is None and usual is None and most is None:
        return None, 0.0
    step, floor = number(spec.get("step")) or 1.0, least if least is not None else usual or 0.0
    size = floor + math.ceil(max(0.0, disk_gb - floor) / step) * step
    limit = most if most is not None else usual if least is None else None
    if limit is not None and size > limit:
        return int(limit), None if limit < disk_gb else 0.0
    each = price_of(spec.get("pricePerUnit")) or 0.0
    free = (usual or 0.0) if spec.get("defaultIncludedInPrice") else 0.0
    return int(size), each * max(0.0, size - free)


def _usual(entry: Entry, key: str) -> int | None:
    """Return how many processors, or GB of memory, such a machine usually has, where it has to be said."""
    value = number(mapping(entry.get(key)).get("defaultCount"))
    return None if value is None else int(value)


def _image(entry: Entry) -> str | None:
    """Return the plain system with CUDA where there is one, else the newest PyTorch, None without either."""
    listed = entry.get("images")
    images = [str(image) for image in listed] if isinstance(listed, list) else []
    return IMAGE if IMAGE in images else max((i for i in images if i.startswith("cuda_") and "pytorch" in i), default=None)


def _places(entry: Entry) -> set[str]:
    return {value.lower() for key in ("region", "country", "dataCenter") if (value := text(entry.get(key)))}


def _check_regions(regions: tuple[str, ...], entries: Sequence[Entry]) -> None:
    known = set(REGIONS).union(*(_places(entry) for entry in entries))
    for region in regions:
        if region.lower() not in known:
            raise no_region("Prime Intellect", region, known, "region, country or data center", hint=f"Regions: {', '.join(REGIONS)}.")


def _names(entry: Entry) -> tuple[str, ...]:
    """Return the names of an entry's GPU: ``H100_80GB`` and, with its socket, ``H100 SXM5``."""
    kind = str(entry.get("gpuType") or "")
    return kind, f"{kind.rpartition('_')[0]} {entry.get('socket') or ''}"
