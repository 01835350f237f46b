"""End one pod, or all that lies under a lease: asked for until the cloud itself says so."""

from __future__ import annotations

from trainyard.clouds import absence
from trainyard.clouds.absence import LEAVE
from trainyard.clouds.protocol import Cloud
from trainyard.errors import CloudError, StillThere, TrainyardError
from trainyard.leases import fence, intents, sweep
from trainyard.leases.world import OperationWorld
from trainyard.retries import EFFECT

_ASK_AGAIN = 15.0


def end_pod(world: OperationWorld, cloud: Cloud, pod_id: str) -> None:
    """End a pod and wait until the cloud says that it is gone or going; raises StillThere when it does not go."""
    if cloud.capabilities.finished_free and _has_finished(world, cloud, pod_id):
        return
    until, pauses, ask_at, asked = world.time() + LEAVE, EFFECT.pauses(), world.time(), 0
    while True:
        if world.time() >= ask_at:
            world.allowed(f"ending {pod_id}")
            cloud.terminate(pod_id)
            ask_at = world.time() + _ASK_AGAIN
            asked += 1
            if asked > 1:
                world.info(f"pod {pod_id} is still there, though {cloud.name} was asked to end it: asked again")
        info = cloud.get(pod_id)
        if info is None or info.status == "terminating" or cloud.capabilities.over(info):
            return
        if world.time() >= until:
            price = f", ${info.price_per_hour:.2f} per hour" if info.price_per_hour is not None else ""
            raise StillThere(f"pod {pod_id} is still there ({info.raw_status}{price})", hint="Run destroy again.")
        world.sleep(next(pauses))


def _has_finished(world: OperationWorld, cloud: Cloud, pod_id: str) -> bool:
    """Tell, also in words, whether a pod has finished by itself and costs nothing any more: then nobody need be able to end it."""
    try:
        info = cloud.get(pod_id)
    except CloudError:
        return False  # it is asked to end as any other
    if info is None or not cloud.capabilities.over(info):
        return False
    world.info(f"pod {pod_id} has finished by itself ({info.raw_status}) and costs nothing any more, by {cloud.name}'s own word")
    return True


def end_lease(world: OperationWorld, cloud_name: str, id: str, *, is_fence: bool, store: str | None, bucket: str | None) -> None:
    """Close a lease, wait for living creators, end what intents name, sweep the cloud, trust only a proven absence.

    ``is_fence``: every lease under it, too. Raises StillThere when something may be left, the store's error when all is
    gone and only the bucket could not be told; both keep what is on record, for the next try.
    """
    root = world.places.intents
    closed = sweep.close(root, id, world.time(), is_fence=is_fence)
    unclosed = _close_in_bucket(world, id, store, bucket) if is_fence else None
    cloud = world.open_cloud(cloud_name)
    known = closed.remember(cloud.capabilities, time=world.time, sleep=world.sleep, say=world.info)
    proof = absence.prove(
        cloud, [absence.KnownPod(pod_id) for pod_id in known.ids], lambda pod: pod.lease_id == id or (is_fence and pod.fence_id == id),
        trusted_from=known.trusted_from, time=world.time, sleep=world.sleep, allowed=world.allowed,
    )  # fmt: skip
    proof.require("Run destroy again; the lease's end and the reaper end it otherwise.")
    if ended := sum(gone.here for gone in proof.ended):
        world.info(f"ended {ended} pod{'s' if ended > 1 else ''} of {'environment' if is_fence else 'lease'} {id}")
    if unclosed is not None:
        raise unclosed
    intents.remove_folder(root, id)


def _close_in_bucket(world: OperationWorld, id: str, store: str | None, bucket: str | None) -> TrainyardError | None:
    """A store that is down must not keep pods alive: sweep first, complain afterwards."""
    try:
        fence.close_in_bucket(world, id, store, bucket)
    except TrainyardError as error:
        world.warn(f"the bucket cannot be told that environment {id} is closed: {error}")
        return error
    return None
