"""Reach a run's pod: the address from the stack's outputs, a fresh one from the cloud when that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainyard.clouds.absence import listing_pause
from trainyard.clouds.protocol import Cloud
from trainyard.errors import CloudError, EngineError, Unreachable
from trainyard.remote.transport import Address, Transport, dial
from trainyard.runs.context import CommandContext
from trainyard.runs.records.key import private_key
from trainyard.runs.records.record import RunRecord

_SURE = 5.0
"""Seconds between the two answers that are believed when they agree, at most: less where the cloud needs less."""


def pod_of(context: CommandContext, record: RunRecord) -> ReachablePod:
    """Return the run's pod as the outputs of its stack tell it. Raises EngineError when its SSH key is lost."""
    return pod_with(context, record, private_key)


def pod_with(context: CommandContext, record: RunRecord, key: Callable[[CommandContext, RunRecord], Path]) -> ReachablePod:
    """Do the same with another way to the key's file: whether it is there may not matter."""
    known = record.pod
    if not (known.pod_id and known.lease_id and known.host and known.port and known.workspace):
        raise EngineError(f"the record of {record.id} does not say where its pod is reached")
    address = Address(
        known.host, known.port, known.user or "root", known.host_key, key(context, record), tuple(known.login_command or ()), known.through
    )
    return ReachablePod(known.pod_id, known.lease_id, known.workspace, address, context.cloud_of(record))


@dataclass(slots=True)
class ReachablePod:
    """A rented pod and how it is reached."""

    id: str
    lease_id: str
    workspace: str
    address: Address
    cloud: Cloud

    def path(self, *parts: str) -> str:
        """Return a path under the pod's workspace."""
        return "/".join((self.workspace.rstrip("/"), *parts))

    def connect(self, *, timeout: float = 15.0) -> Transport:
        """Connect; when the address does not answer, ask the cloud for a fresh one and try that once.

        Raises Unreachable when neither answers.
        """
        try:
            return dial(self.address, timeout=timeout)
        except Unreachable:
            if not self._refresh():
                raise
            return dial(self.address, timeout=timeout)

    def over(self, *, stopped_too: bool = True, sleep: Callable[[float], None] = time.sleep) -> str | None:
        """Return the cloud's word that the pod is gone (or that it has stopped it), None while something may be there.

        It is asked twice, and its list must agree: one untrue answer must not cost a training.
        """
        if self._over(stopped_too) is None:
            return None
        sleep(min(_SURE, listing_pause(self.cloud.capabilities)))
        return self._over(stopped_too)

    def _over(self, stopped_too: bool) -> str | None:
        try:
            info = self.cloud.get(self.id)
            # An untrue 404 was seen to last: the list must miss it, too.
            listed = info is None and any(pod.id == self.id for pod in self.cloud.list())
        except CloudError:
            return None
        if listed or (info is not None and not stopped_too):
            return None
        if info is None:
            return f"the cloud has ended pod {self.id}"
        # A stopped pod still costs its disk, and its watchdog has stopped with it.
        return f"the cloud has stopped pod {self.id} ({info.raw_status})" if info.status in ("exited", "error") else None

    def _refresh(self) -> bool:
        try:
            info = self.cloud.get(self.id)
        except CloudError:
            return False
        if info is None or info.ssh is None:
            return False
        door, known = info.ssh, self.address
        fresh = Address(door.host, door.port, door.user, known.host_key, known.key_file, door.command, door.through)
        changed = fresh != self.address
        self.address = fresh
        return changed
