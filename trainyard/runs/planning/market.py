"""What all clouds rent out now, asked at once: one that is slow, down or without a key never hides the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from trainyard.clouds import gpus
from trainyard.clouds.protocol import Cloud, Offer, OfferQuery
from trainyard.runs.planning.asking import PATIENCE, ask_all

Opener = Callable[[], Cloud]


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedOffer:
    """An offer and what a run on it costs; money is in dollars."""

    cloud: str
    offer: Offer
    gpu: str | None
    """The type by its common name, as the cloud spells it where no table knows it; None: a pod without."""
    vram_gb: int | None
    """Memory of each GPU as its maker states it; None where no table knows it."""
    per_hour: float
    """The pod with its disks."""
    hours: float
    simulated: bool = False
    """An emulator has said so."""

    @property
    def dollars(self) -> float:
        """What so many hours cost."""
        return self.per_hour * self.hours

    @property
    def machine(self) -> str:
        """The pod in words: ``2x H100 SXM``, ``CPU``."""
        if self.gpu is None:
            return "CPU"
        name = f"{self.offer.gpu_count}x {self.gpu}"
        return f"{name} (spot)" if self.offer.spot else name


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudReply:
    """What one cloud has said: offers, else why there are none."""

    cloud: str
    """The name that it was asked under."""
    offers: tuple[PricedOffer, ...] = ()
    problem: str | None = None
    """Why nothing is known of it; None: it has answered."""
    hint: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one cloud is asked."""

    opener: Opener
    query: OfferQuery
    hours: float
    """That the cost is told for."""


def ask(questions: Mapping[str, Question], *, patience: float = PATIENCE, grace: float | None = None) -> list[CloudReply]:
    """Return the reply to each question under its name, in their order; never raises for what a cloud says or does not say.

    ``patience`` and ``grace`` as of ask_all().
    """
    answers = ask_all({name: partial(_offers, name, question) for name, question in questions.items()}, patience, grace)
    return [
        CloudReply(cloud=name, offers=answer.value or (), problem=answer.problem, hint=answer.hint, seconds=answer.seconds)
        for name, answer in answers.items()
    ]


def cheapest_first(replies: Iterable[CloudReply]) -> list[PricedOffer]:
    """Return all offers by what the run costs on them; equal ones in the order of their clouds."""
    return sorted((offer for reply in replies for offer in reply.offers), key=lambda offer: offer.dollars)


def types_with(vram_gb: float) -> tuple[str, ...]:
    """Return all types of GPU that have so much memory (GB), the smallest first."""
    return tuple(gpu.name for gpu in sorted(gpus.GPUS, key=lambda gpu: gpu.vram_gb) if gpus.has_memory(gpu.vram_gb, vram_gb))


def _offers(name: str, question: Question) -> tuple[PricedOffer, ...]:
    query, cloud = question.query, question.opener()
    disks = {gpu: cloud.disks_per_hour(query.disk_gb, gpu=gpu, volume=bool(query.volume)) for gpu in (True, False)}
    return tuple(_priced(name, cloud, offer, disks[bool(offer.gpu)], question.hours) for offer in cloud.offers(query))


def _priced(name: str, cloud: Cloud, offer: Offer, disks_per_hour: float, hours: float) -> PricedOffer:
    kind = next(iter(gpus.find(offer.gpu or "")), None)
    return PricedOffer(
        cloud=name, offer=offer, gpu=kind.name if kind else offer.gpu,
        vram_gb=kind.vram_gb if kind else gpus.stated_memory(offer.gpu or ""),
        per_hour=offer.price_per_hour + disks_per_hour, hours=hours, simulated=cloud.simulated,
    )  # fmt: skip
