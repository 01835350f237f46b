"""Closing a fence or a lease, and the check that every create makes: nothing is rented under one that is closed.

The marker on this machine stops every process here; the object in the bucket stops other machines. The
order is what makes it safe: a create locks its intent before it looks, a closer marks before it waits for
the holders of intents. So either the create sees the mark, or the closer sees the create.
"""

from __future__ import annotations

from trainyard.clock import format_time
from trainyard.config import Places
from trainyard.errors import RefusedError, TrainyardError
from trainyard.leases import intents
from trainyard.leases.store import settings_of
from trainyard.leases.world import OperationWorld
from trainyard.settings.table import NO_BUCKET


def is_closed(places: Places, id: str) -> bool:
    """Tell whether this machine has closed a fence or lease."""
    return intents.is_closed(places.intents, id)


def close_in_bucket(world: OperationWorld, fence_id: str, store: str | None, bucket: str | None) -> None:
    """Close a fence for every machine that shares the bucket. Raises StoreError when that cannot be done now."""
    settings = settings_of(world, store, bucket)
    if settings is None:
        if bucket and bucket != NO_BUCKET:
            world.warn(f"no credentials for bucket '{bucket}': other machines are not told that this environment is closed")
        return
    from trainyard.storage.markers import close_fence

    close_fence(settings, fence_id, {"closed": _now(world)})


def refuse_if_closed(world: OperationWorld, fence_id: str, lease_id: str, store: str | None, bucket: str | None) -> None:
    """Raise RefusedError when the fence or the lease is closed. Call it with the intent locked."""
    for what, id in (("environment", fence_id), ("lease", lease_id)):
        if is_closed(world.places, id):
            raise _closed(what, id)
    settings = settings_of(world, store, bucket)
    if settings is None:
        return
    from trainyard.storage.markers import fence_is_closed

    if fence_is_closed(settings, fence_id):
        raise _closed("environment", fence_id)


def is_closed_in_bucket(world: OperationWorld, fence_id: str, store: str | None, bucket: str | None) -> bool:
    """Tell whether the bucket says closed; False where it cannot be asked (a create asks again, and insists)."""
    try:
        settings = settings_of(world, store, bucket)
        if settings is None:
            return False
        from trainyard.storage.markers import fence_is_closed

        return fence_is_closed(settings, fence_id)
    except TrainyardError as error:
        world.warn(f"cannot ask the bucket whether this environment is closed: {error}")
        return False


def _closed(what: str, id: str) -> RefusedError:
    return RefusedError(
        f"{what} {id} was closed by a destroy: nothing is rented under it any more",
        hint="Start anew: 'invoke train' and 'invoke up' bring the environment up again, under a fence of its own.",
    )


def _now(world: OperationWorld) -> str:
    return format_time(world.time())
