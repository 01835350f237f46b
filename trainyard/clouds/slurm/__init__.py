"""Slurm: a pod is a job of a cluster, which is reached through its login node."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.slurm.cloud import SlurmCloud
from trainyard.clouds.slurm.login import known_logins
from trainyard.config import Places

__all__ = ["SlurmCloud"]


def open_slurm(env: Mapping[str, str], places: Places) -> SlurmCloud:
    """Return the clusters that the repository's stacks name, and those on which it has had pods."""
    return SlurmCloud(env, places, known_logins(places))
