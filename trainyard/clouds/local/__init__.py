"""The cloud on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.local.cloud import LocalCloud
from trainyard.config import Places

__all__ = ["LocalCloud"]


def open_local(env: Mapping[str, str], places: Places) -> LocalCloud:
    """Return the cloud whose pods are recorded in this machine's folder."""
    return LocalCloud(places.cloud)
