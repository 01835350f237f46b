"""Slurm: a pod is a job of a cluster, which is reached through its login node."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.slurm.cloud import SlurmCloud
from trainyard.clouds.slurm.login import known_logins
from trainyard.config import Places
from trainyard.errors import UserError

__all__ = ["SlurmCloud"]
_HINT = "In Pulumi.slurm.yaml, below config:\n  trainyard:login: login.cluster.example      (a host of your ssh_config, or me@address)"


def open_slurm(env: Mapping[str, str], places: Places) -> SlurmCloud:
    """Return the clusters that the repository's stacks name, and those on which it has had pods; raises UserError where there are none."""
    logins = known_logins(places)
    if not logins:
        raise UserError("no login node is named: trainyard:login is not set", hint=_HINT)
    return SlurmCloud(env, places, logins)
