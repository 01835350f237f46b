"""Which model cache a run uses: where it lies or is to lie, how large it must be, what it costs. Makes nothing.

The setting is ``cache: auto``. A run whose cache lies where nothing that fits is to be had goes without: a second volume costs more,
month by month, than a download.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainyard.clouds.protocol import Cloud, Offer
from trainyard.clouds.volumes import KeepsVolumes, NetworkVolume, volumes_of
from trainyard.errors import RefusedError
from trainyard.leases.environmentid import environment_id
from trainyard.recipes.basemodel import is_path
from trainyard.recipes.fit.base import look
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.estimate import allowed_offers, query_of
from trainyard.runs.planning.storageplan import bucket_of
from trainyard.runs.records.cacheplan import CACHE_USED, CachePlan, name_of
from trainyard.settings.table import StackSettings

ROOM_GB = 20.0
"""For what is not a base's weights: packages, and the files that runs are sent."""
_STEP_GB = 10
_UNKNOWN_GB = 50.0


@dataclass(frozen=True, slots=True)
class CacheNeed:
    """What a run downloads: a base, or all that a recipe needs."""

    base: str
    gb: float


def need_of(recipe: str, needs: Values, values: Values) -> CacheNeed:
    """Return what a run would download: a base's weights as far as their size is known, else the disk that its recipe asks for."""
    base = values.get("base_model")
    if not isinstance(base, str) or is_path(base):
        return CacheNeed(recipe, _disk(needs))
    parameters = look(base).parameters
    return CacheNeed(base, 2 * parameters / 1e9 if parameters else _disk(needs))


def plan(
    context: CommandContext, cloud: Cloud, stack: str, settings: StackSettings, need: CacheNeed, hours: float
) -> tuple[StackSettings, CachePlan | None]:
    """Return the settings, narrowed to where the cache is, and the cache; no cache where none is asked for or none can be.

    Raises RefusedError where the bucket is a network volume, which a pod would have to mount in its stead.
    """
    volumes = volumes_of(cloud)
    if settings.cache != "auto" or settings.volume or volumes is None:
        return settings, None
    bucket = bucket_of(context, stack, settings)
    if bucket is not None and bucket.store == "runpod":
        hint = f"Say 'trainyard:volume: {bucket.bucket}': downloads lie on the mounted bucket then. Or keep results in another store."
        raise RefusedError("`cache: auto`: results are kept in a network volume, and a pod mounts one volume only", hint=hint)
    offers = allowed_offers(cloud.offers(replace(query_of(settings), hours=hours + settings.rescue_minutes / 60)), settings)
    if not offers:
        return settings, None  # the estimate says what narrows the choice
    env_id = settings.env_id or environment_id(context.places, stack)
    own = sorted((one for one in volumes.list() if one.name == name_of(env_id, one.place)), key=lambda volume: volume.id)
    place = _place(offers, frozenset(volume.place for volume in own) if own else volumes.places())
    if place is None:
        where = ", ".join(sorted({volume.place for volume in own}))
        why = f"it lies in {where}, where nothing that fits is to be had now" if own else "no data center with volumes has what fits"
        context.ui.warn(f"model cache: {why}; this run goes without it")
        return settings, None
    there = next((volume for volume in own if volume.place == place), None)
    name = name_of(env_id, place)
    least = max(settings.cache_gb, _size(context, cloud.name, name, need))
    if least > volumes.terms.most_gb:
        context.ui.warn(f"model cache: {least:g} GB are more than a volume can have ({volumes.terms.most_gb:g} GB)")
    cache = _plan(volumes, name, place, there, min(max(least, volumes.terms.least_gb), volumes.terms.most_gb), need)
    return replace(settings, regions=(place,)), replace(cache, choice=_choice(offers, place))


def _plan(volumes: KeepsVolumes, name: str, place: str, there: NetworkVolume | None, least: float, need: CacheNeed) -> CachePlan:
    terms = volumes.terms
    before = there.size_gb if there else None
    size = least if before is None else max(before, least) if terms.grows else before
    same = there is not None and size == before
    return CachePlan(
        name=name, place=place, size_gb=size, base=need.base, base_gb=need.gb, volume=there.id if there else None, before_gb=before,
        per_month=there.per_month if same and there else volumes.per_month(size), by_use=terms.by_use,
    )  # fmt: skip


def _place(offers: Sequence[Offer], places: frozenset[str]) -> str | None:
    """Return the first place that an offer is in, in the order of preference."""
    return next((offer.region for offer in offers if offer.region in places), None)


def _size(context: CommandContext, cloud: str, name: str, need: CacheNeed) -> float:
    """Return the GB that a cache must have: for all bases that runs are known to have put there, this one, and the rest."""
    bases = {need.base: need.gb}
    for event in context.ledger().events(kind=CACHE_USED):
        if event.data.get("cloud") == cloud and event.data.get("name") == name:
            base, size = str(event.data.get("base")), float(event.data.get("base_gb") or 0.0)
            bases[base] = max(size, bases.get(base, 0.0))
    return float(math.ceil((sum(bases.values()) + ROOM_GB) / _STEP_GB) * _STEP_GB)


def _choice(offers: Sequence[Offer], place: str) -> str:
    """Say what being bound to a place costs."""
    inside = [offer for offer in offers if offer.region == place]
    said = f"{len(inside)} of {len(offers)} offers are there"
    saved = min(offer.price_per_hour for offer in inside) - min(offer.price_per_hour for offer in offers)
    return f"{said}, the cheapest elsewhere is ${saved:.2f}/h cheaper" if saved >= 0.005 else f"{said}, none elsewhere is cheaper"


def _disk(needs: Values) -> float:
    said = needs.get("disk_gb")
    return float(said) if isinstance(said, int | float) and said > 0 else _UNKNOWN_GB
