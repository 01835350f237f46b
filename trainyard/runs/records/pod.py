"""Reach a run's pod: the address from the stack's outputs, a fresh one from the cloud when that fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.clouds.listing import listing_pause
from trainyard.clouds.protocol import Cloud
from trainyard.errors import CloudError, EngineError, Unreachable, UserError
from trainyard.remote.transport import Address, Transport, dial
from trainyard.runs.context import CommandContext
from trainyard.runs.records.key import private_key
from trainyard.runs.records.parts import RunPod
from trainyard.runs.records.record import RunRecord

_SURE = 5.0
"""Seconds between the two answers that are believed when they agree, at most: less where the cloud needs less."""


def pod_of(context: CommandContext, record: RunRecord) -> ReachablePod:
    """Return the run's pod as the outputs of its stack tell it. Raises EngineError when its SSH key is lost."""
    return pod_with(context, record, private_key)


def pod_with(context: CommandContext, record: RunRecord, key: Callable[[CommandContext, RunRecord], Path]) -> ReachablePod:
    """Do the same with another way to the key's file: whether it is there may not matter."""
    return reach(context, record, record.pod, key)


def reach(
    context: CommandContext, record: RunRecord, known: RunPod, key: Callable[[CommandContext, RunRecord], Path] = private_key
) -> ReachablePod:  # fmt: skip
    """Return one of the pods of a run."""
    if record.container is not None and known.pod_id and known.lease_id:
        return ReachablePod(known.pod_id, known.lease_id, known.workspace or "/workspace", None, context.cloud_of(record))
    if not (known.pod_id and known.lease_id and known.host and known.port and known.workspace):
        raise EngineError(f"the record of {record.id} does not say where its pod is reached")
    address = Address(
        known.host, known.port, known.user or "root", known.host_key, key(context, record), tuple(known.login_command or ()), known.through
    )
    sender = replace(address, command=known.send_command) if known.send_command else None
    return ReachablePod(known.pod_id, known.lease_id, known.workspace, address, context.cloud_of(record), sender)


@dataclass(slots=True)
class ReachablePod:
    """A rented pod and how it is reached."""

    id: str
    lease_id: str
    workspace: str
    address: Address | None
    """None: its cloud has no SSH, and nothing of the pod is reached but through the bucket."""
    cloud: Cloud
    sender: Address | None = None
    """A machine that sees the pod's files and reaches the store, where the pod does not."""

    def path(self, *parts: str) -> str:
        """Return a path under the pod's workspace."""
        return "/".join((self.workspace.rstrip("/"), *parts))

    def connect(self, *, timeout: float = 15.0) -> Transport:
        """Connect; when the address does not answer, ask the cloud for a fresh one and try that once.

        Raises Unreachable when neither answers, UserError where its cloud has no SSH.
        """
        if self.address is None:
            raise UserError(f"pods of {self.cloud.name} have no SSH: what one tells and is told goes through the run's bucket")
        try:
            return dial(self.address, timeout=timeout)
        except Unreachable:
            fresh = self._fresh(self.address)
            if fresh is None:
                raise
            self.address = fresh
            return dial(fresh, timeout=timeout)

    def connect_sender(self) -> Transport:
        """Connect to what sends and fetches the pod's files: mostly the pod itself."""
        return self.connect() if self.sender is None else dial(self.sender)

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
            return f"the cloud says that pod {self.id} is gone{self._how_it_ended()}"
        if self.cloud.capabilities.over(info):
            return f"pod {self.id} has ended ({info.raw_status})"
        # A stopped pod still costs its disk, and its watchdog has stopped with it.
        return f"the cloud has stopped pod {self.id} ({info.raw_status})" if info.status in ("exited", "error") else None

    def _how_it_ended(self) -> str:
        """Return the cloud's word on a pod that is gone, where it is a cluster, which keeps one for a while."""
        said = None
        if self.cloud.capabilities.queues:
            with contextlib.suppress(CloudError):
                said = self.cloud.boot_problem(self.id)
        return "" if said is None else f": {said}"

    def _fresh(self, known: Address) -> Address | None:
        """Return another address than the known one, as the cloud tells it now; None where it tells none."""
        try:
            info = self.cloud.get(self.id)
        except CloudError:
            return None
        if info is None or info.ssh is None:
            return None
        door = info.ssh
        fresh = Address(door.host, door.port, door.user, known.host_key, known.key_file, door.command, door.through)
        return fresh if fresh != known else None
