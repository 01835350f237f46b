"""Replicate: a training (or a prediction) of a model version that is Trainyard's own wrapper (docker/replicate); no SSH."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.replicate.cloud import ReplicateCloud
from trainyard.config import Places

__all__ = ["ReplicateCloud"]


def open_replicate(env: Mapping[str, str], places: Places) -> ReplicateCloud:
    """Return the account named by REPLICATE_API_TOKEN; raises UserError where it is not set."""
    return ReplicateCloud.from_env(env)
