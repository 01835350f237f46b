"""What this machine remembers of a lease's create requests: which pods to end, and from when on an empty list is believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.clouds.protocol import Capabilities
from trainyard.leases import intents
from trainyard.leases.rent import open_until


@dataclass(frozen=True, slots=True)
class LeaseMemory:
    """What intents say of a lease: the ids they name, and the moment from which an empty listing can be trusted."""

    ids: tuple[str, ...]
    trusted_from: float


def remember(
    root: Path,
    id: str,
    capabilities: Capabilities,
    *,
    is_fence: bool,
    time: Callable[[], float],
    sleep: Callable[[float], None],
    say: Callable[[str], None],
) -> LeaseMemory:
    """Wait until no living process creates a pod under a lease (or a fence), then return what is on record.

    The lease must have been closed before, else another create could begin behind our back.
    """
    known_here = intents.has_folder(root, id)
    paths = list(dict.fromkeys([*intents.of_lease(root, id), *(intents.of_fence(root, id) if is_fence else [])]))
    records = [
        intents.settle(path, sleep, lambda path=path: say(f"waiting for the process that creates {path.name}"))  # type: ignore[misc]
        for path in paths
    ]
    ids = tuple(dict.fromkeys(pod_id for record in records for pod_id in record.ids))
    return LeaseMemory(ids, _trusted_from(time(), capabilities, records, known_here=known_here))


def _trusted_from(now: float, caps: Capabilities, records: Sequence[intents.IntentRecord], *, known_here: bool) -> float:
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
