"""JarvisLabs: containers with GPUs in India and Europe. It publishes no specification; its own client tells how it is asked."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.jarvislabs.cloud import JarvisLabsCloud
from trainyard.config import Places

__all__ = ["JarvisLabsCloud"]


def open_jarvislabs(env: Mapping[str, str], places: Places) -> JarvisLabsCloud:
    """Return the account named by JL_API_KEY; raises UserError where it is not set."""
    return JarvisLabsCloud.from_env(env)
