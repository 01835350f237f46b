"""io.net: containers without SSH (CaaS) and virtual machines (VMaaS) of one account, paid ahead by the hour."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.clouds.ionet.cloud import IonetCloud
from trainyard.clouds.ionet.services import CONTAINERS, MACHINES
from trainyard.config import Places

__all__ = ["IonetCloud"]


def open_ionet(env: Mapping[str, str], places: Places) -> IonetCloud:
    """Return the containers of the account named by IOCLOUD_API_KEY; raises UserError where it is not set."""
    return IonetCloud.from_env(CONTAINERS, env)


def open_ionet_vm(env: Mapping[str, str], places: Places) -> IonetCloud:
    """Return its virtual machines."""
    return IonetCloud.from_env(MACHINES, env)
