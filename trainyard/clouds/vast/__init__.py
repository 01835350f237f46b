"""Vast.ai: instances of a marketplace, over REST with SSH of their own."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.vast.cloud import VastCloud
from trainyard.config import Places

__all__ = ["VastCloud"]


def open_vast(env: Mapping[str, str], places: Places) -> VastCloud:
    """Return the account named by VAST_API_KEY; raises UserError where it is not set."""
    return VastCloud.from_env(env)
