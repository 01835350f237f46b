"""Which machines there are: those that any stack of the repository names, and those that have joined a server here.

All of them, because a lease that one stack made is listed, audited and ended from another; which of them a run may be put
on, its own stack says with ``regions``.
"""

from __future__ import annotations

from pathlib import Path

from trainyard.clouds.ssh.joined import joined_hosts
from trainyard.config import Places, stack_names
from trainyard.errors import UserError
from trainyard.settings import reader
from trainyard.settings.hosts import OwnHost, own_hosts

_HINT = "In Pulumi.ssh.yaml, below config:\n  trainyard:hosts: [gpu1]      (gpu1: as your ~/.ssh/config calls it)"


def machines_of(places: Places) -> list[OwnHost]:
    """Return all machines. Raises UserError for a wrong block, two of one name, none at all."""
    hosts, joined = hosts_of(places.root), joined_hosts(places.home)
    named = {host.name for host in hosts}
    for host in joined:
        if host.name in named:
            raise UserError(
                f"'{host.name}' is a worker, and a host of trainyard:hosts", hint=f"invoke worker.remove {host.name}, or name one anew."
            )
    if not hosts and not joined:
        raise UserError("no machine is named: trainyard:hosts is empty, and no worker has joined a server here", hint=_HINT)
    return hosts + joined


def hosts_of(root: Path) -> list[OwnHost]:
    """Return the machines of all stacks whose cloud is ``ssh``. Raises UserError for a wrong block, and two of one name."""
    hosts: dict[str, OwnHost] = {}
    for stack in stack_names(root):
        settings = reader.partly(root, stack, "hosts")
        for host in own_hosts(settings.hosts) if settings.cloud == "ssh" else ():
            if hosts.setdefault(host.name, host) != host:
                raise UserError(
                    f"Pulumi.{stack}.yaml: host '{host.name}' is another one than in another stack's file", hint="Name one anew."
                )
    return list(hosts.values())
