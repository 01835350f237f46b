"""The table that guides print, reckoned from what clouds say now: each GPU's cheapest offer, for runs of several lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainyard.runs.context import CommandContext
from trainyard.runs.planning.market import PricedOffer
from trainyard.runs.verbs.offers import Market, OfferSearch, search_offers, unknowns

COMMON = ("RTX 4090", "RTX 5090", "L40S", "A100", "H100", "H200", "B200")
"""Types that are shown where none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a machine of one's own with such a GPU costs."""

    dollars: float
    watts: float
    """What it draws while it trains."""
    per_kwh: float
    """Dollars of a kilowatt-hour."""

    def hours_to_break_even(self, per_hour: float) -> float | None:
        """Return the hours of training after which it has cost less than renting for so many dollars an hour; None: never."""
        saved = per_hour - self.watts / 1000 * self.per_kwh
        return self.dollars / saved if saved > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """The cheapest offer of one type of GPU at one cloud; money is in dollars."""

    cloud: str
    gpu: str
    vram_gb: int | None
    per_hour: float
    """With the pod's disks."""
    dollars: tuple[float, ...]
    """For each of the table's lengths."""
    break_even_hours: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Prices of now."""

    hours: tuple[float, ...]
    rows: tuple[PriceRow, ...]
    purchase: Purchase | None
    market: Market


def price_table(context: CommandContext, search: OfferSearch, hours: Sequence[float], purchase: Purchase | None) -> PriceTable:
    """Return each GPU's cheapest offer at each cloud, for runs of so many hours, the cheapest first. Raises what search_offers() does."""
    market = search_offers(context, search)
    best: dict[tuple[str, str], PricedOffer] = {}
    for one in market.offers:
        best.setdefault((one.cloud, one.machine), one)
    rows = (_row(one, hours, purchase) for one in best.values())
    return PriceTable(hours=tuple(hours), rows=tuple(sorted(rows, key=lambda row: row.per_hour)), purchase=purchase, market=market)


def _row(one: PricedOffer, hours: Sequence[float], purchase: Purchase | None) -> PriceRow:
    return PriceRow(
        cloud=one.cloud, gpu=one.machine, vram_gb=one.vram_gb, per_hour=one.per_hour, dollars=tuple(one.per_hour * each for each in hours),
        break_even_hours=purchase.hours_to_break_even(one.per_hour) if purchase else None,
    )  # fmt: skip


def lines(table: PriceTable) -> Iterator[str]:
    """Yield the table for a person: on 80 columns with three lengths."""
    if table.rows:
        heads = "".join(f" {f'{hours:g} h, $':>8}" for hours in table.hours)
        yield f"{'cloud':<10} {'GPU':<18} {'GB':>4} {'$/h':>7}{heads}" + (f" {'pays after':>10}" if table.purchase else "")
    else:
        yield table.market.why_empty()
    for row in table.rows:
        memory = "?" if row.vram_gb is None else f"{row.vram_gb}"
        costs = "".join(f" {dollars:>8.2f}" for dollars in row.dollars)
        own = "never" if row.break_even_hours is None else f"{row.break_even_hours:,.0f} h"
        yield f"{row.cloud:<10} {row.gpu:<18} {memory:>4} {row.per_hour:>7.2f}{costs}" + (f" {own:>10}" if table.purchase else "")
    if table.purchase:
        bought = table.purchase
        yield (
            f"pays after: hours of training from which on a machine of one's own (${bought.dollars:,.0f}, {bought.watts:g} W at "
            f"${bought.per_kwh:g} a kWh) has cost less"
        )
    yield from unknowns(table.market)
