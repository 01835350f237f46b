"""The reaper: find the pods of an account and end those whose lease is over. Needs the API key, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from trainyard.clouds.marker import LONGEST_LEASE, format_time
from trainyard.clouds.protocol import Cloud, PodInfo
from trainyard.errors import CloudError

Verdict = Literal["over", "leased", "no end", "unreadable", "foreign"]
PROOF_TRIES = 5


@dataclass(frozen=True, slots=True)
class Sighting:
    """One pod of the account and what the reaper thinks of it."""

    pod: PodInfo
    verdict: Verdict
    ended: bool | None = None
    """None: left alone. True: ended and proved gone. False: could not be ended."""
    problem: str = ""


def judge(pod: PodInfo, now: datetime) -> Verdict:
    """Say whether a pod's lease is over by the cloud's clock.

    A pod of ours whose end cannot be read is over only when it is older than the longest lease allowed.
    """
    if pod.lease_id is None and not pod.end_unreadable:
        return "foreign"
    if pod.end_unreadable:
        return "over" if pod.created is not None and now - pod.created > LONGEST_LEASE else "unreadable"
    if pod.end is None:
        return "no end"
    return "over" if pod.end <= now else "leased"


def reap(cloud: Cloud, *, dry_run: bool = False, sleep: Callable[[float], None] = time.sleep) -> list[Sighting]:
    """End every pod whose lease is over and prove it by the cloud's list; return all pods seen.

    Raises CloudError when the list cannot be read. A pod that cannot be ended does not stop the others.
    """
    now = cloud.now()
    seen = [Sighting(pod, judge(pod, now)) for pod in cloud.list()]
    over = [sighting.pod for sighting in seen if sighting.verdict == "over"]
    if dry_run or not over:
        return seen
    problems = {pod.id: _end(cloud, pod) for pod in over}
    left = _still_listed(cloud, over, sleep)
    return [
        sighting
        if sighting.verdict != "over"
        else Sighting(sighting.pod, "over", sighting.pod.id not in left, problems[sighting.pod.id] if sighting.pod.id in left else "")
        for sighting in seen
    ]


def rows(sightings: Sequence[Sighting]) -> list[dict[str, Any]]:
    """Return the sightings as plain data, for a table or JSON."""
    return [
        {
            "id": s.pod.id,
            "name": s.pod.name,
            "status": s.pod.status,
            "price_per_hour": s.pod.price_per_hour,
            "lease_id": s.pod.lease_id,
            "end": format_time(s.pod.end) if s.pod.end else None,
            "verdict": s.verdict,
            "ended": s.ended,
            "problem": s.problem,
        }
        for s in sightings
    ]


def _end(cloud: Cloud, pod: PodInfo) -> str:
    try:
        cloud.terminate(pod.id)
    except CloudError as error:
        return error.message
    return "the cloud accepted the end but still lists the pod"


def _still_listed(cloud: Cloud, over: Sequence[PodInfo], sleep: Callable[[float], None]) -> set[str]:
    wanted = {pod.id for pod in over}
    left = wanted
    for attempt in range(PROOF_TRIES):
        if attempt:
            sleep(2.0**attempt)
        left = {pod.id for pod in cloud.list()} & wanted
        if not left:
            break
    return left
