"""Prime Intellect: a broker of machines at other providers, by its Compute API."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.prime.cloud import PrimeCloud
from trainyard.config import Places

__all__ = ["PrimeCloud"]


def open_prime(env: Mapping[str, str], places: Places) -> PrimeCloud:
    """Return the account named by PRIME_API_KEY; raises UserError where it is not set."""
    return PrimeCloud.from_env(env)
