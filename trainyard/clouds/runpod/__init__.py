"""RunPod: pods through REST v2, spot and balance through GraphQL."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.runpod.cloud import RunPodCloud
from trainyard.config import Places

__all__ = ["RunPodCloud"]


def open_runpod(env: Mapping[str, str], places: Places) -> RunPodCloud:
    """Return the account named by RUNPOD_API_KEY; raises UserError where it is not set."""
    return RunPodCloud.from_env(env)
