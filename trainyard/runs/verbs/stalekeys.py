"""SSH keys that pods have left in an account: they cost nothing and open nothing any more, and they are removed with their leases."""

from __future__ import annotations

from trainyard.clouds.protocol import Cloud
from trainyard.clouds.vm import KeepsKeys, stale
from trainyard.errors import CloudError
from trainyard.runs.context import CommandContext


def remove_stale(context: CommandContext, cloud: Cloud, *, dry_run: bool, quiet: bool) -> None:
    """Remove the keys of ours whose leases are over, and say which; what cannot be removed is told and left to the next round."""
    if not isinstance(cloud, KeepsKeys):
        return
    try:
        for key in stale(cloud.ssh_keys(), cloud.now()):
            if not dry_run:
                cloud.remove_ssh_key(key.id)
            if not quiet:
                context.ui.say(f"SSH key {key.name} ({key.id}): its lease is over{'' if dry_run else ', removed'}")
    except CloudError as error:
        context.ui.warn(f"{cloud.name}: SSH keys that pods have left in the account: {error.message}")
