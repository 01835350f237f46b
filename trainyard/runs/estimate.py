"""What a run will cost at most, said before anything is rented, and the limits that can forbid it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.clouds.protocol import Cloud, CostItem, Offer, OfferQuery
from trainyard.errors import NoCapacity, RefusedError, UserError
from trainyard.runs.ledger import Ledger
from trainyard.runs.shape import avoidable

HOURS_A_MONTH = 730
_DAY = 86_400.0
LIMIT_WINDOWS: Mapping[str, float] = {"limit_day": _DAY, "limit_week": 7 * _DAY, "limit_month": 30 * _DAY}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most a run can cost: the whole lease, rescue time included, at the offer's price."""

    offer: Offer
    hours: float
    rescue_hours: float
    volume: CostItem | None = None
    """The network volume that the pod mounts: it costs money by the month, with or without a pod."""
    avoided: tuple[str, ...] = ()
    """Offers that are not taken because their pods did not boot lately."""

    @property
    def most(self) -> float:
        """Dollars."""
        return self.offer.price_per_hour * (self.hours + self.rescue_hours)

    def text(self) -> str:
        """Return the estimate as one line."""
        gpu = f"{self.offer.gpu_count}x {self.offer.gpu}" if self.offer.gpu else "CPU"
        lease = f"{self.hours:g} h + {self.rescue_hours * 60:.0f} min rescue"
        text = f"{gpu} at ${self.offer.price_per_hour:.2f}/h, lease {lease}: at most ${self.most:.2f}"
        if self.volume is None:
            return text
        return f"{text}; network volume {self.volume.id}: ${self.volume.per_hour * HOURS_A_MONTH:.2f} a month, with or without a pod"


def query_of(settings: Mapping[str, Any]) -> OfferQuery:
    """Return what an environment's settings ask the cloud for."""
    gpus = settings.get("gpu") or []
    return OfferQuery(
        gpus=tuple([gpus] if isinstance(gpus, str) else gpus),
        gpu_count=int(settings.get("gpu_count") or 1),
        disk_gb=int(settings.get("disk_gb") or 100),
        max_price=None if settings.get("max_price") is None else float(settings["max_price"]),
        regions=tuple(settings.get("regions") or ()),
        spot=bool(settings.get("spot")),
        tier=settings.get("tier"),
        min_cuda=None if settings.get("min_cuda") is None else str(settings["min_cuda"]),
        min_vram_gb=None if settings.get("min_vram_gb") is None else float(settings["min_vram_gb"]),
        volume=settings.get("volume"),
    )


def estimate(cloud: Cloud, settings: Mapping[str, Any], hours: float, failed: Sequence[str] = ()) -> Estimate:
    """Return the estimate for the first offer that has not ``failed`` lately.

    Raises NoCapacity when the cloud has none that fits.
    """
    query = query_of(settings)
    offers = cloud.offers(query)
    if not offers:
        wanted = f"{query.gpu_count}x {' or '.join(query.gpus)}" if query.gpus else "a pod without GPU"
        hint = "Add another GPU to 'gpu', or raise 'max_price'."
        raise NoCapacity(f"{cloud.name} has no offer for {wanted}{_limits(query)} now", hint=hint)
    avoided = avoidable(offers, failed)
    first = next(offer for offer in offers if offer.id not in avoided)
    volume = next((item for item in cloud.costs() if item.kind == "volume" and item.id == query.volume), None) if query.volume else None
    return Estimate(first, hours, float(settings.get("rescue_minutes") or 30) / 60, volume, tuple(avoided))


def check_limits(found: Estimate, settings: Mapping[str, Any], ledger: Ledger, budget: float | None) -> list[str]:
    """Return warnings; raises RefusedError where a budget or a limit with ``limit_action: block`` forbids the run."""
    if budget is not None and budget <= 0:
        raise UserError("the budget must be more than $0")
    warnings = []
    if budget is not None and found.most > budget:
        warnings.append(f"the whole lease would cost ${found.most:.2f}; the training is stopped when ${budget:.2f} are used up")
    for name, window in LIMIT_WINDOWS.items():
        if settings.get(name) is None:
            continue
        spent = ledger.spent_since(time.time() - window)
        if spent + found.most > float(settings[name]):
            text = f"{name} is ${float(settings[name]):.2f}: ${spent:.2f} spent, this run may add ${found.most:.2f}"
            if settings.get("limit_action", "block") == "block":
                raise RefusedError(text, hint="Shorten the lease (--hours), or change the limit in the stack's settings.")
            warnings.append(text)
    return warnings


def _limits(query: OfferQuery) -> str:
    """Say what narrows the choice, so that a person knows what to change."""
    limits = {
        " at ${:g}/h or less": query.max_price,
        " with {:g} GB of memory each": query.min_vram_gb,
        " and a driver for CUDA {}": query.min_cuda,
        " beside network volume {}": query.volume,
    }
    return "".join(text.format(value) for text, value in limits.items() if value is not None)
