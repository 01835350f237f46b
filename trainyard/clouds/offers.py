"""What every cloud's offers are held against: the names of GPUs that are asked for, and the highest price."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.clouds import gpus
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.errors import UserError


def check_gpus(asked: Sequence[str], names: Sequence[tuple[str, ...]]) -> None:
    """Raise UserError for a GPU that neither the table nor the catalog knows; ``names``: those of each entry of the catalog."""
    for gpu in asked:
        if not gpus.find(gpu) and not gpus.match(gpu, names):
            near = gpus.suggestions(gpu, [name for entry in names for name in entry])
            raise UserError(f"no GPU is called '{gpu}'", hint=f"Did you mean {' or '.join(near)}?" if near else None)


def affordable(query: OfferQuery, offer: Offer) -> bool:
    """Tell whether an offer keeps to the query's highest price."""
    return query.max_price is None or offer.price_per_hour <= query.max_price + 1e-9
