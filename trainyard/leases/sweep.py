"""Close a lease, then remember its create requests: which pods to end, and from when on an empty list is believed.

The order is what makes it safe, and the types keep it: only of what is closed something is remembered, else another
create could begin behind our back.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.clouds.protocol import Capabilities
from trainyard.errors import TrainyardError
from trainyard.leases import intents
from trainyard.leases.rent import open_until


@dataclass(frozen=True, slots=True)
class LeaseMemory:
    """What intents say of a lease: the ids they name, and the moment from which an empty listing can be trusted."""

    ids: tuple[str, ...]
    trusted_from: float


@dataclass(frozen=True, slots=True)
class ClosedLease:
    """A lease, or a fence with every lease under it, under which no process of this machine rents any more."""

    root: Path
    id: str
    is_fence: bool

    def remember(
        self, capabilities: Capabilities, *, time: Callable[[], float], sleep: Callable[[float], None], say: Callable[[str], None]
    ) -> LeaseMemory:
        """Wait until no living process creates a pod under it, then return what is on record."""
        known_here = intents.has_folder(self.root, self.id)
        below = intents.of_fence(self.root, self.id) if self.is_fence else []
        records = [
            intents.settle(path, sleep, lambda path=path: say(f"waiting for the process that creates {path.name}"))  # type: ignore[misc]
            for path in dict.fromkeys([*intents.of_lease(self.root, self.id), *below])
        ]
        ids = tuple(dict.fromkeys(pod_id for record in records for pod_id in record.ids))
        return LeaseMemory(ids, _trusted_from(time(), capabilities, records, known_here=known_here))


def close(root: Path, id: str, now: float, *, is_fence: bool) -> ClosedLease:
    """Close a lease or a fence for every process of this machine; raises OSError where that cannot be written."""
    intents.close(root, id, now)
    return ClosedLease(root, id, is_fence)


def close_all(
    root: Path,
    ids: Iterable[str],
    capabilities: Capabilities,
    *,
    fences: Container[str] = (),
    say: Callable[[str], None],
    on_trouble: Callable[[Exception], None],
) -> LeaseMemory:
    """Close leases (those among ``fences`` with all under them) and return what is on record of them together.

    What cannot be written or read here is given to ``on_trouble`` and keeps no pod alive: an empty listing is then
    believed as late as after a request that leaves now.
    """
    known: list[str] = []
    trusted_from = clock.time()
    for id in sorted(ids):
        try:
            lease = close(root, id, clock.time(), is_fence=id in fences)
            memory = lease.remember(capabilities, time=clock.time, sleep=clock.sleep, say=say)
        except (OSError, TrainyardError) as error:
            on_trouble(error)
            memory = LeaseMemory((), open_until(capabilities, clock.time(), clock.time()))
        known += memory.ids
        trusted_from = max(trusted_from, memory.trusted_from)
    return LeaseMemory(tuple(dict.fromkeys(known)), trusted_from)


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
