"""What can be rented now, on all clouds together, and what runs on it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from trainyard.clouds import gpus, open_cloud
from trainyard.clouds.keys import account_keys
from trainyard.clouds.protocol import Cloud, OfferQuery
from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.asking import PATIENCE
from trainyard.runs.planning.market import CloudReply, PricedOffer, Question, ask, cheapest_first, types_with
from trainyard.settings.clouds import entries
from trainyard.settings.ofcloud import unsaid
from trainyard.settings.table import DEFAULTS

GRACE = 3.0
SHOWN = 20
"""Offers that are shown unless more are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSearch:
    """What a person looks for; times are hours, money dollars, sizes GB."""

    gpus: tuple[str, ...] = ()
    """Types by any of their names; none: every type with enough memory."""
    gpu_count: int = DEFAULTS.gpu_count
    vram_gb: float | None = None
    max_price: float | None = None
    """Dollars an hour of the whole pod, above which nothing is shown."""
    hours: float = 1.0
    disk_gb: int = DEFAULTS.disk_gb
    spot: bool = False
    regions: tuple[str, ...] = ()
    clouds: tuple[str, ...] = ()
    """The only clouds to ask; none: all whose keys are set."""
    patience: float = PATIENCE
    grace: float | None = GRACE
    """Seconds after a cloud's answer for which the others are still waited for; None: as long as ``patience`` lasts."""

    def query(self) -> OfferQuery:
        """Return it as clouds are asked."""
        return OfferQuery(
            gpus=self.gpus or types_with(self.vram_gb or 0.0), gpu_count=self.gpu_count, max_price=self.max_price,
            regions=self.regions, spot=self.spot, min_vram_gb=self.vram_gb, disk_gb=self.disk_gb, hours=self.hours,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What was said on a question."""

    search: OfferSearch
    replies: tuple[CloudReply, ...]
    without_keys: tuple[str, ...]
    """Clouds that were not asked, because their keys are not set."""
    unnamed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Clouds that were not asked, because no stack of the repository says the settings that name their machines."""

    @property
    def offers(self) -> list[PricedOffer]:
        """All offers, the cheapest first."""
        return cheapest_first(self.replies)

    @property
    def answered(self) -> bool:
        """Tell whether any cloud has answered; this machine is always asked, and counts as one where it has an offer."""
        return any(reply.problem is None and (reply.cloud != "local" or reply.offers) for reply in self.replies)

    def why_empty(self) -> str:
        """Return, for a person, why there is no offer."""
        if self.answered:
            return "no cloud that was asked has such an offer now"
        if any(reply.cloud != "local" for reply in self.replies):
            return "not one cloud has answered"
        return "no cloud was asked: no key of one is set here. Set one: invoke setup --all"


def search_offers(context: CommandContext, search: OfferSearch) -> Market:
    """Ask all clouds at once, or those that the search names.

    Raises UserError for a cloud or a GPU that nobody knows, and for a named cloud whose keys, or machines, nobody has told.
    """
    known = entries()
    for name in search.clouds:
        if name not in known:
            raise UserError(f"unknown cloud '{name}'{suggest(name, known)}", hint=f"Clouds: {', '.join(known)}.")
        account_keys(name, context.env)
        if lacks := unsaid(context.places.root, known[name]):
            hint = f"invoke setup --stack {name} --setting {lacks[0]}=..."
            raise UserError(f"{name}: no stack here says {' and '.join(lacks)}", hint=hint)
    for gpu in search.gpus:
        if not gpus.find(gpu):
            near = gpus.suggestions(gpu)
            raise UserError(f"no GPU is called '{gpu}'", hint=f"Did you mean {' or '.join(near)}?" if near else None)
    asked = search.clouds or tuple(known)
    closed = tuple(name for name in asked if not _has_keys(context, name))
    query = search.query()
    unnamed = {name: lacks for name in asked if (lacks := unsaid(context.places.root, known[name]))}
    open_ones = [name for name in asked if name not in closed and name not in unnamed]
    questions = {name: Question(opener=_opener(context, name), query=query, hours=search.hours) for name in open_ones}
    replies = ask(questions, patience=search.patience, grace=search.grace)
    return Market(search=search, replies=tuple(replies), without_keys=closed, unnamed=unnamed)


def lines(market: Market, limit: int = SHOWN) -> Iterator[str]:
    """Yield the offers for a person, the cheapest first, on 80 columns; then what is not known, and why. ``limit`` 0: all of them."""
    offers, hours = market.offers, market.search.hours
    shown = offers[:limit] if limit else offers
    if shown:
        cost = f"{hours:g} h, $"
        yield f"{'cloud':<11} {'GPU':<26} {'GB':>4} {'region':<14} {'$/h':>7} {cost:>10}"
        yield from (_line(offer) for offer in shown)
    else:
        yield market.why_empty()
    if len(offers) > len(shown):
        yield f"{len(offers) - len(shown):,} dearer ones: --limit 0 shows all"
    yield from unknowns(market)


def unknowns(market: Market) -> Iterator[str]:
    """Yield, for a person, what the answers leave open: emulators, clouds that did not answer, clouds that were not asked."""
    emulated = dict.fromkeys(offer.cloud for offer in market.offers if offer.simulated)
    if emulated:
        yield f"an emulator answers for {', '.join(emulated)}: nothing of it is real"
    for reply in market.replies:
        if reply.problem is not None:
            yield f"not known: {reply.cloud}: {reply.problem}"
    if market.without_keys:
        yield f"not asked, no key is set: {', '.join(market.without_keys)}"
    if market.unnamed:
        yield f"not asked, no stack names them: {', '.join(f'{name} ({chr(32).join(lacks)})' for name, lacks in market.unnamed.items())}"


def _line(one: PricedOffer) -> str:
    memory = "?" if one.vram_gb is None else f"{one.vram_gb}"
    return f"{one.cloud:<11} {one.machine:<26} {memory:>4} {one.offer.region or '-':<14} {one.per_hour:>7.2f} {one.dollars:>10.2f}"


def _has_keys(context: CommandContext, name: str) -> bool:
    try:
        account_keys(name, context.env)
    except UserError:
        return False
    return True


def _opener(context: CommandContext, name: str) -> Callable[[], Cloud]:
    return lambda: open_cloud(name, context.env, context.places)
