"""What all clouds rent out now, asked at once: one that is slow, down or without a key never hides the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from trainyard.clouds import gpus
from trainyard.clouds.protocol import Cloud, Offer, OfferQuery
from trainyard.errors import TrainyardError, in_short

Opener = Callable[[], Cloud]
PATIENCE = 15.0
"""Seconds that clouds have for their answers, all of them together."""


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


@dataclass(slots=True)
class _Asked:
    thread: threading.Thread
    replies: list[CloudReply] = field(default_factory=list)


def ask(questions: Mapping[str, Question], *, patience: float = PATIENCE) -> list[CloudReply]:
    """Return the reply to each question under its name, in their order; never raises for what a cloud says or does not say.

    ``patience``: seconds after which a cloud that has not answered counts as silent. The others' answers are not waited for longer
    than it takes them.
    """
    asked = {name: _start(name, question) for name, question in questions.items()}
    until = time.monotonic() + patience
    for one in asked.values():
        one.thread.join(max(0.0, until - time.monotonic()))
    silent = f"no answer within {patience:g} s"
    return [one.replies[0] if one.replies else CloudReply(cloud=name, problem=silent, seconds=patience) for name, one in asked.items()]


def cheapest_first(replies: Iterable[CloudReply]) -> list[PricedOffer]:
    """Return all offers by what the run costs on them; equal ones in the order of their clouds."""
    return sorted((offer for reply in replies for offer in reply.offers), key=lambda offer: offer.dollars)


def types_with(vram_gb: float) -> tuple[str, ...]:
    """Return all types of GPU that have so much memory (GB), the smallest first."""
    return tuple(gpu.name for gpu in sorted(gpus.GPUS, key=lambda gpu: gpu.vram_gb) if gpus.has_memory(gpu.vram_gb, vram_gb))


def _start(name: str, question: Question) -> _Asked:
    # A daemon: who gave up on a cloud does not wait for it at the end of the process either.
    asked = _Asked(threading.Thread(target=lambda: asked.replies.append(_reply(name, question)), daemon=True))
    asked.thread.start()
    return asked


def _reply(name: str, question: Question) -> CloudReply:
    began, query = time.monotonic(), question.query
    try:
        cloud = question.opener()
        disks = {gpu: cloud.disks_per_hour(query.disk_gb, gpu=gpu, volume=bool(query.volume)) for gpu in (True, False)}
        offers = tuple(_priced(name, cloud, offer, disks[bool(offer.gpu)], question.hours) for offer in cloud.offers(query))
    except TrainyardError as error:
        return CloudReply(cloud=name, problem=error.message, hint=error.hint, seconds=time.monotonic() - began)
    except Exception as error:
        # Whatever an adapter stumbles over, a user's own one too, is that cloud's trouble alone.
        return CloudReply(cloud=name, problem=f"{type(error).__name__}: {in_short(error)}", seconds=time.monotonic() - began)
    return CloudReply(cloud=name, offers=offers, seconds=time.monotonic() - began)


def _priced(name: str, cloud: Cloud, offer: Offer, disks_per_hour: float, hours: float) -> PricedOffer:
    kind = next(iter(gpus.find(offer.gpu or "")), None)
    return PricedOffer(
        cloud=name, offer=offer, gpu=kind.name if kind else offer.gpu, vram_gb=kind.vram_gb if kind else None,
        per_hour=offer.price_per_hour + disks_per_hour, hours=hours, simulated=cloud.simulated,
    )  # fmt: skip
