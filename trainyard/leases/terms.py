"""The terms of a lease: when it begins, when training stops, when the pod is gone, and why it cannot hold a pod any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trainyard.clock import format_time
from trainyard.clouds.marker import new_id
from trainyard.leases import fence, intents
from trainyard.leases.world import OperationWorld


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """What a lease allows. Without ``stop`` and ``end`` it is a fence and has no deadline."""

    lease_id: str
    fence_id: str
    start: datetime
    stop: datetime | None
    end: datetime | None


def begin(
    world: OperationWorld, cloud: str, fence_id: str | None, hours: float | None, rescue_minutes: float, wait_hours: float | None = None
) -> LeaseTerms:  # fmt: skip
    """Begin a lease under a fence (None: it is one itself); what this machine asks for under it is on record from now on.

    ``wait_hours``: the pod may have to wait for its machine; its stop and end are those of the longest wait.
    """
    lease_id = new_id()
    intents.make_folder(world.places.intents, lease_id)
    # The cloud's clock decides when a lease is over, so it also says when one begins.
    start = datetime.fromtimestamp(world.time(), UTC) if hours is None else world.open_cloud(cloud).now()
    return terms(lease_id, fence_id, start + timedelta(hours=wait_hours or 0.0), hours, rescue_minutes)


def terms(lease_id: str, fence_id: str | None, start: datetime, hours: float | None, rescue_minutes: float) -> LeaseTerms:
    """Return the terms of a lease that began at ``start``: ``hours`` of training, then the minutes for rescue."""
    stop = None if hours is None else start + timedelta(hours=hours)
    end = None if stop is None else stop + timedelta(minutes=rescue_minutes)
    return LeaseTerms(lease_id=lease_id, fence_id=fence_id or lease_id, start=start, stop=stop, end=end)


def over(world: OperationWorld, lease_id: str, end: datetime | None) -> str | None:
    """Return why a lease cannot hold a pod any more, None while it can."""
    if fence.is_closed(world.places, lease_id):
        return "was closed by a destroy"
    if end is not None and end.timestamp() <= world.time():
        return f"ended at {format_time(end)}"
    return None
