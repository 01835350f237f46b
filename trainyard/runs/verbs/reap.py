"""The reaper: find the pods of an account and end those whose lease is over. Needs the API key, nothing else."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from trainyard.clock import format_time
from trainyard.clouds.absence import EndedPod, KnownPod, Proof, prove
from trainyard.clouds.listing import complete_list, listing_pause
from trainyard.clouds.marker import LONGEST_LEASE
from trainyard.clouds.protocol import Cloud, PodInfo
from trainyard.errors import CloudError

Verdict = Literal["over", "leased", "no end", "unreadable", "foreign", "disputed"]
"""disputed: over by one clock only, the cloud's or this machine's, and they are far apart."""
CLOCKS_APART = timedelta(minutes=5)
"""What the two clocks may differ by and be believed. The cloud's counts: a machine that a schedule starts may have a wrong one."""
PATIENCE = 60.0
"""Seconds in which a pod must have gone; a reaper that is called by a clock comes again."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One pod of the account and what the reaper thinks of it."""

    pod: PodInfo
    verdict: Verdict
    ended: bool | None = None
    """None: left alone. True: ended and proved gone. False: still there, or nobody knows."""
    problem: str = ""
    gone: EndedPod | None = None
    """Its end, where that is proved."""


def judge(pod: PodInfo, now: datetime) -> Verdict:
    """Say whether a pod's lease is over by the cloud's clock.

    A pod of ours whose end cannot be read is over only when it is older than the longest lease allowed; so is one whose end
    is further away than any lease is long: no lease of ours has said that.
    """
    if pod.lease_id is None and not pod.end_unreadable:
        return "foreign"
    if pod.end_unreadable or (pod.end is not None and pod.end - now > LONGEST_LEASE + CLOCKS_APART):
        return "over" if pod.created is not None and now - pod.created > LONGEST_LEASE else "unreadable"
    if pod.end is None:
        return "no end"
    return "over" if pod.end <= now else "leased"


def reap(
    cloud: Cloud, *, dry_run: bool = False, sleep: Callable[[float], None] = clock.sleep, time: Callable[[], float] = clock.time
) -> list[Sighting]:
    """End every pod whose lease is over and prove it; return all pods seen.

    Raises CloudError when the list cannot be read. A pod that cannot be ended does not stop the others.
    """
    pods = complete_list(cloud, cloud.list, lambda pod: pod.id, time=time, sleep=sleep)
    cloud_time, here = cloud.now(), datetime.fromtimestamp(time(), UTC)  # in this order: only what ``seen`` asks is asked again
    agree = abs(cloud_time - here) <= CLOCKS_APART
    # Where they do not, only what is over by both is: a Date that is hours ahead would end pods within their lease.
    now, latest = (cloud_time, cloud_time) if agree else (min(cloud_time, here), max(cloud_time, here))
    sightings = [Sighting(pod, judge(pod, now)) for pod in pods]
    if not dry_run:
        sightings = _by_ids(cloud, sightings, now, sleep)
    doubt = f"over by one clock only: {cloud.name}'s says {format_time(cloud_time)}, this machine's {format_time(here)}; it was not ended"
    sightings = [
        Sighting(s.pod, "disputed", None if dry_run else False, doubt) if s.verdict != "over" and judge(s.pod, latest) == "over" else s
        for s in sightings
    ]
    over = [KnownPod(s.pod.id, s.pod.price_per_hour, s.pod.end) for s in sightings if s.verdict == "over"]
    if dry_run or not over:
        return sightings
    proof = prove(cloud, over, patience=PATIENCE, time=time, sleep=sleep)
    return [_proved(sighting, proof) if sighting.verdict == "over" else sighting for sighting in sightings]


def rows(sightings: Sequence[Sighting]) -> list[dict[str, Any]]:
    """Return the sightings as plain data, for a table or JSON."""
    return [
        {
            "id": s.pod.id,
            "name": s.pod.name,
            "status": s.pod.status,
            "price_per_hour": s.pod.price_per_hour,
            "lease_id": s.pod.lease_id,
            "end": format_time(s.pod.end),
            "verdict": s.verdict,
            "ended": s.ended,
            "problem": s.problem,
        }
        for s in sightings
    ]


def _by_ids(cloud: Cloud, listed: list[Sighting], now: datetime, sleep: Callable[[float], None]) -> list[Sighting]:
    """Return the sightings as the cloud tells them by id; where that is not over, too, it is asked once more: one answer may lie."""
    sightings = [_by_id(cloud, s, now) if s.verdict == "over" else s for s in listed]
    if sightings == listed:
        return sightings
    sleep(listing_pause(cloud.capabilities))
    return [then if then is first else _by_id(cloud, first, now) for first, then in zip(listed, sightings, strict=True)]


def _by_id(cloud: Cloud, sighting: Sighting, now: datetime) -> Sighting:
    """Return what the cloud says of a pod by its id where that is not over: a list that mixes pods up must end none.

    Which of the two is true nobody knows: it is left to the next round, and told as not ended.
    """
    try:
        pod = cloud.get(sighting.pod.id)
    except CloudError:
        return sighting
    if pod is None or (verdict := judge(pod, now)) == "over":
        return sighting
    return Sighting(pod, verdict, False, f"{cloud.name} lists it with marks that it has not by its id")


def _proved(sighting: Sighting, proof: Proof) -> Sighting:
    if (gone := next((gone for gone in proof.ended if gone.id == sighting.pod.id), None)) is not None:
        return Sighting(sighting.pod, "over", True, gone=gone)
    why = next((left.why for left in (*proof.there, *proof.unknown) if left.id in (sighting.pod.id, "")), "not proved")
    return Sighting(sighting.pod, "over", False, why)
