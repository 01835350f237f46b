"""What every cloud's offers are held against: the names of GPUs that are asked for, and the highest price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trainyard.clouds import gpus
from trainyard.clouds.protocol import SETTING, VALUE, Offer, OfferQuery
from trainyard.clouds.values import price_of
from trainyard.errors import UserError
from trainyard.nearest import nearest


def check_gpus(asked: Sequence[str], names: Sequence[tuple[str, ...]]) -> None:
    """Raise UserError for a GPU that neither the table nor the catalog knows; ``names``: those of each entry of the catalog."""
    for gpu in asked:
        if not gpus.find(gpu) and not gpus.match(gpu, names):
            near = gpus.suggestions(gpu, [name for entry in names for name in entry])
            hint = f"Did you mean {' or '.join(near)}?" if near else None
            raise UserError(f"no GPU is called '{gpu}'", hint=hint, facts={SETTING: "gpu", VALUE: gpu})


def no_region(title: str, region: str, known: Iterable[str], what: str = "region", *, hint: str = "") -> UserError:
    """Return the error of a region that a cloud has not, with the nearest that it has."""
    names = sorted(known)
    by_letters = {name.lower(): name for name in names}
    near = [by_letters[one] for one in nearest(region.lower(), by_letters, 1)]
    message = f"{title} has no {what} '{region}'{f' (did you mean {near[0]!r}?)' if near else ''}"
    return UserError(message, hint=hint or f"Regions: {', '.join(names)}.", facts={SETTING: "regions", VALUE: region})


def affordable(query: OfferQuery, offer: Offer) -> bool:
    """Tell whether an offer keeps to the query's highest price."""
    return query.max_price is None or offer.price_per_hour <= query.max_price + 1e-9


def own_prices(env: Mapping[str, str], variable: str, known: Sequence[str]) -> dict[str, float]:
    """Return what a variable says of prices that a cloud's API does not tell (``H200=4.54,A10=1.10``: dollars an hour of one GPU).

    Raises UserError for what cannot be read.
    """
    prices: dict[str, float] = {}
    said = env.get(variable, "")
    for part in said.split(",") if said.strip() else ():
        gpu, _, dollars = (word.strip() for word in part.partition("="))
        try:
            price = price_of(float(dollars))
        except ValueError:
            price = None
        if gpu not in known or price is None:
            hint = f"As in {known[-1]}=4.54,{known[0]}=1.10. GPUs: {', '.join(known)}."
            raise UserError(f"{variable}: '{part.strip()}' is no price of a GPU", hint=hint)
        prices[gpu] = price
    return prices
