"""Machines of one's own as a cloud: pods on them are leases on their GPUs."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.ssh.cloud import OwnMachines
from trainyard.clouds.ssh.hosts import machines_of
from trainyard.config import Places

__all__ = ["REHEARSAL", "OwnMachines"]

REHEARSAL = "TRAINYARD_SSH_REHEARSAL"
"""Variable of a rehearsal: its hosts are played."""


def open_ssh(env: Mapping[str, str], places: Places) -> OwnMachines:
    """Return the cloud of all machines that the repository's stacks name as ``hosts``, and of those that have joined a server here.

    Raises UserError where there is none.
    """
    return OwnMachines(machines_of(places), simulated=bool(env.get(REHEARSAL)))
