"""Providers of GPU pods: one file a cloud behind one protocol."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.protocol import Cloud
from trainyard.config import Places
from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.settings.table import CLOUDS


def open_cloud(name: str, env: Mapping[str, str], places: Places) -> Cloud:
    """Return the adapter of a cloud, with the credentials found in ``env``.

    Raises UserError for an unknown cloud or a missing or half-set credential. Makes no request.
    """
    if name == "local":
        from trainyard.clouds.local import LocalCloud

        return LocalCloud(places.cloud)
    if name == "runpod":
        from trainyard.clouds.runpod import RunPodCloud

        return RunPodCloud.from_env(env)
    raise UserError(f"unknown cloud '{name}'{suggest(name, CLOUDS)}", hint=f"Clouds: {', '.join(CLOUDS)}.")
