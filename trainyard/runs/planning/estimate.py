"""What a run will cost at most, said before anything is rented; and, beside it, what its storage costs by the month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainyard.clouds.protocol import Cloud, CostItem, Offer, OfferQuery
from trainyard.errors import NoCapacity
from trainyard.recipes.fit.work import Duration, told_by
from trainyard.runs.planning.history import Expectation
from trainyard.runs.planning.shape import avoidable
from trainyard.runs.records.cacheplan import CachePlan
from trainyard.runs.records.progress import duration
from trainyard.runs.records.storagecost import StorageCost, dollars
from trainyard.settings.ofcloud import options_of, pods_of_a_run
from trainyard.settings.table import StackSettings
from trainyard.storage.prices import GB

HOURS_A_MONTH = 730


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most a run can cost: the whole lease, rescue time included, at the price of the dearest offer that may be taken."""

    offer: Offer
    """The one that is asked for first."""
    dearest: Offer
    hours: float
    rescue_hours: float
    disks_per_hour: float = 0.0
    """Dollars that the cloud bills for the pod's disks, beside its price."""
    volume: CostItem | None = None
    """The network volume that the pod mounts: it costs money by the month, with or without a pod."""
    avoided: tuple[str, ...] = ()
    """Offers that are not taken because their pods did not boot lately."""
    expected: Expectation | None = None
    """How long it will take, as like runs tell; None: none is known."""
    reckoned: Duration | None = None
    """How long it trains, as its base, method and data tell; None: they do not."""
    storage: StorageCost | None = None
    """What its result and data cost in their bucket: by the month, never in ``most``; None: it has none."""
    cache: CachePlan | None = None
    """The network volume of ours that its pod mounts."""
    pods: int = 1
    """How many such pods train together; all figures in dollars are of all of them."""
    ceiling: float | None = None
    """Dollars per hour above which no pod is kept, whatever its offer said; None before it is decided."""

    @property
    def most(self) -> float:
        """Dollars."""
        price = self.dearest.price_per_hour if self.ceiling is None else self.ceiling
        return self.pods * (price + self.disks_per_hour) * max(self.hours + self.rescue_hours, self.prepaid_hours)

    @property
    def prepaid_hours(self) -> float:
        """Hours that are paid for at once, whatever of them is used; 0 where none are."""
        return (self.dearest.prepaid or 0.0) / (self.dearest.price_per_hour or 1.0)

    @property
    def likely(self) -> tuple[float, float, float] | None:
        """Dollars that it will cost: the least, the likely and the most, within its lease; None where no like run is known."""
        if self.expected is None:
            return None
        first, last = (self.pods * (offer.price_per_hour + self.disks_per_hour) for offer in (self.offer, self.dearest))
        low, likely, high = (min(seconds / 3600, self.hours) for seconds in (self.expected.low, self.expected.likely, self.expected.high))
        return low * first, likely * first, min(high * last, self.most)

    def _expectation(self) -> str:
        """Say what it will take, and what that rests on."""
        expected, dollars = self.expected, self.likely
        if expected is None or dollars is None:
            return f"no like run tells how long it takes{self._reckoned()}; "
        money = "" if not self.most else f", ${dollars[1]:.2f} (${dollars[0]:.2f} to ${dollars[2]:.2f})"
        short = ", MORE than its lease has" if expected.likely / 3600 > self.hours else ""
        runs = "1 like run" if expected.runs == 1 else f"{expected.runs} like runs"
        aside = f", {duration(expected.aside)} of it not training" if expected.aside >= 1 else ""
        return f"about {duration(expected.likely)}{short}{money}{aside}, from {runs}; "

    def _reckoned(self) -> str:
        if self.reckoned is None:
            return ""
        low, high, price = self.reckoned.low, self.reckoned.high, self.pods * (self.offer.price_per_hour + self.disks_per_hour)
        money = f", ${low / 3600 * price:.2f} to ${high / 3600 * price:.2f}" if price else ""
        short = ", MORE than its lease has" if low / 3600 > self.hours else ""
        source = f"by {told_by(self.reckoned.runs)}" if self.reckoned.runs else "by the GPU's peak"
        return f": reckoned {source}, its steps take {duration(low)} to {duration(high)}{short}{money}"

    def _traffic(self) -> str:
        """Say what the network costs beside all that, where the machine's owner takes something for it."""
        into, out = (max(getattr(offer, name) or 0.0 for offer in (self.offer, self.dearest)) for name in ("gb_in", "gb_out"))
        if not into and not out:
            return ""
        size = self.storage.result_bytes if self.storage else None
        home = "" if size is None or not out else f", {dollars(size / GB * out)} for the result"
        return f"; beside it what goes through the network, up to ${into:g} a GB in and ${out:g} a GB out{home}"

    def text(self) -> str:
        """Return the estimate as one line."""
        lease = f"{self.hours:g} h + {self.rescue_hours * 60:.0f} min rescue"
        other = (
            "" if self.dearest.price_per_hour <= self.offer.price_per_hour else f" (where that is taken up to {_offer_name(self.dearest)})"
        )
        each = "" if self.pods == 1 else f"{self.pods} pods, each "
        text = f"{each}{_offer_name(self.offer)}{other}, lease {lease}: {self._expectation()}at most ${self.most:.2f}"
        if self.ceiling is not None and self.ceiling > self.dearest.price_per_hour:
            text += f" (no pod above ${self.ceiling:.2f}/h is kept)"
        if self.prepaid_hours:
            text += f"; {self.prepaid_hours:.0f} h are paid ahead, and what is left when it ends comes back as credits"
        text += self._traffic()
        if self.volume is None:
            return text
        return f"{text}; network volume {self.volume.id}{_size(self.volume)}: {_month(self.volume.per_hour)}, with or without a pod"


def said_of(expected: Estimate) -> list[str]:
    """Return what a person is told of an estimate, as lines."""
    lines = [f"estimate   {expected.text()}"]
    lines += [f"cache      {expected.cache.text()}"] if expected.cache else []
    return lines + ([f"storage    {kept}"] if expected.storage and (kept := expected.storage.text()) else [])


def _size(volume: CostItem) -> str:
    return "" if volume.size_gb is None else f" of {volume.size_gb:g} GB"


def _month(per_hour: float | None) -> str:
    return "what it costs a month is not known" if per_hour is None else f"{dollars(per_hour * HOURS_A_MONTH)} a month"


def query_of(settings: StackSettings) -> OfferQuery:
    """Return what an environment's settings ask the cloud for."""
    return OfferQuery(
        gpus=settings.gpu,
        gpu_count=settings.gpu_count,
        max_price=settings.max_price,
        regions=settings.regions,
        spot=settings.spot,
        tier=settings.tier,
        min_cuda=settings.min_cuda,
        min_vram_gb=settings.min_vram_gb,
        volume=settings.volume,
        disk_gb=settings.disk_gb,
        reliability=settings.reliability,
        inet_down=settings.inet_down,
        options=options_of(settings),
    )


def estimate(cloud: Cloud, settings: StackSettings, hours: float, failed: Sequence[str] = (), cache: CachePlan | None = None) -> Estimate:
    """Return the estimate for the first offer that has not ``failed`` lately; its pod mounts the ``cache``.

    Raises NoCapacity when the cloud has none that fits.
    """
    query = replace(query_of(settings), hours=hours + settings.rescue_minutes / 60)
    offers = allowed_offers(cloud.offers(query), settings)
    if not offers:
        request = f"{query.gpu_count}x {' or '.join(query.gpus)}" if query.gpus else "a pod without GPU"
        hint = _advice(query, settings)
        raise NoCapacity(f"{cloud.name} has no offer for {request}{_limits(query)} now", hint=hint)
    avoided = avoidable(offers, failed)
    left = [offer for offer in offers if offer.id not in avoided]
    dearest = max(left, key=lambda offer: offer.price_per_hour)
    volume = next((item for item in cloud.costs() if item.kind == "volume" and item.id == query.volume), None) if query.volume else None
    disks = cloud.disks_per_hour(settings.disk_gb, gpu=bool(dearest.gpu), volume=bool(query.volume or cache))
    count = pods_of_a_run(settings)
    return Estimate(left[0], dearest, hours, settings.rescue_minutes / 60, disks, volume, tuple(avoided), cache=cache, pods=count)


def allowed_offers(offers: Sequence[Offer], settings: StackSettings) -> list[Offer]:
    """Return the offers that the settings allow, in the order in which the provider will try them."""
    by_id = {offer.id: offer for offer in offers if offer.id not in settings.avoid_offers}
    return [by_id[id] for id in (by_id if settings.only_offers is None else settings.only_offers) if id in by_id]


def _offer_name(offer: Offer) -> str:
    gpu = f"{offer.gpu_count}x {offer.gpu}" if offer.gpu else "CPU"
    return f"{gpu} at ${offer.price_per_hour:.2f}/h"


def _advice(query: OfferQuery, settings: StackSettings) -> str:
    """Name the settings that narrow the choice, and no other: what is not set cannot be changed."""
    if settings.cloud == "local":
        return "Stack 'local' is this machine: 'gpu' names a GPU of its own, or nothing (invoke doctor shows which there are)."
    ways = ["add another GPU to 'gpu'"] if query.gpus else []
    ways += ["raise 'max_price'"] if query.max_price is not None else []
    narrowing = ("regions", "tier", "min_vram_gb", "min_cuda", "reliability", "inet_down", "volume", "spot", "only_offers")
    named = [name for name in narrowing if getattr(settings, name)]
    ways += [f"loosen {' or '.join(repr(name) for name in named)}"] if named else []
    return f"In the stack's settings: {', or '.join(ways) or 'name a GPU with `gpu`'}."


def _limits(query: OfferQuery) -> str:
    """Say what narrows the choice, so that a person knows what to change."""
    limits = {
        " at ${:g}/h or less": query.max_price,
        " with {:g} GB of memory each": query.min_vram_gb,
        " and a driver for CUDA {}": query.min_cuda,
        " of reliability {:g}": query.reliability,
        " with {:g} Mbit/s": query.inet_down,
        " beside network volume {}": query.volume,
        " in {}": ", ".join(query.regions) or None,
        " in tier {}": query.tier,
        ", spot only": "" if query.spot else None,
    }
    return "".join(text.format(value) for text, value in limits.items() if value is not None)
