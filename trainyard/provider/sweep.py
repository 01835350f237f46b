"""Prove that no pod of a lease is left, and end those that are. What ``pulumi destroy`` rests on after any crash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trainyard.clouds.protocol import Cloud, PodInfo
from trainyard.errors import CloudError, StillThere
from trainyard.provider import intents
from trainyard.provider.rent import LEAVE, listed, listing_pause, open_until
from trainyard.provider.world import World


def settle_intents(world: World, paths: Sequence[Path]) -> list[intents.Record]:
    """Wait until no living process holds one of the intents, and return what they say."""
    return [
        intents.settle(path, world.sleep, lambda path=path: world.info(f"waiting for the process that creates {path.name}"))  # type: ignore[misc]
        for path in paths
    ]


def trust_after(world: World, cloud: Cloud, records: Sequence[intents.Record], *, known_here: bool) -> float:
    """Return the time from which on an empty listing can be believed."""
    now, caps = world.time(), cloud.capabilities
    moments = [now if known_here else open_until(caps, now, now)]
    for record in records:
        if record.start is None:
            continue
        if not record.resolved:
            moments.append(open_until(caps, record.start, now))
        elif record.ids and record.outcome_at is not None:
            # The request is over; what it made must only have had the time to show.
            moments.append(min(record.outcome_at, now) + caps.settle)
    return max(moments)


def named(records: Sequence[intents.Record]) -> list[str]:
    """Return the ids of pods that intents name."""
    return list(dict.fromkeys(pod_id for record in records for pod_id in record.ids))


def sweep(world: World, cloud: Cloud, belongs: Callable[[PodInfo], bool], ids: Sequence[str], trusted_from: float) -> int:
    """End the pods of these ids and every pod that belongs, until the cloud proves that there is none.

    Returns how many were ended. Raises StillThere naming id and price of what does not go away.
    """
    ended: set[str] = set()
    failures: dict[str, CloudError] = {}
    until, pause, empty = world.time() + LEAVE, 0.1, 0
    while empty < cloud.capabilities.listings:
        left = [pod for pod in listed(cloud, ids) if belongs(pod)]
        for pod in left:
            if pod.status != "terminating":
                _try_end(world, cloud, pod, failures)
            ended.add(pod.id)
        now = world.time()
        if left:
            empty = 0
            if now >= until:
                raise _still_there(left, failures)
            world.sleep(pause)
            pause = min(2 * pause, 3.0)
        elif now < trusted_from:
            until = max(until, trusted_from + LEAVE)
            world.sleep(min(2.0, trusted_from - now))
        else:
            empty += 1
            if empty < cloud.capabilities.listings:
                world.sleep(listing_pause(cloud.capabilities))
    return len(ended)


def _try_end(world: World, cloud: Cloud, pod: PodInfo, failures: dict[str, CloudError]) -> None:
    world.allowed(f"ending {pod.id}")
    try:
        cloud.terminate(pod.id)
    except CloudError as error:
        # One stubborn pod must not keep the others alive; the loop tries again until its time is up.
        failures[pod.id] = error


def _still_there(left: Sequence[PodInfo], failures: dict[str, CloudError]) -> StillThere:
    lines = []
    for pod in left:
        price = f", ${pod.price_per_hour:.2f} per hour" if pod.price_per_hour is not None else ""
        why = f": {failures[pod.id].message}" if pod.id in failures else ""
        lines.append(f"{pod.id} ({pod.name}, {pod.raw_status}{price}){why}")
    return StillThere("still there: " + "; ".join(lines), hint="Run destroy again; the lease's end and the reaper end it otherwise.")
