"""Whose turn it is. One rule, without a clock or a database of its own:

rank = priority + hours waited - 2 for each run of the user that is at work

An hour of waiting is one step of priority, and priorities end at 10: nothing that is submitted 20 hours later is preferred to what
waits. Among a user's own runs the hours count from their submission; among users from the last time that a run of theirs was
begun, too, so that who submits a hundred runs does not keep out who submits one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from trainyard.clock import format_time
from trainyard.ledger.queue import QueueEntry
from trainyard.runs.planning.waiting import Readiness, cycle

PlaceState = Literal["at work", "starts", "waits", "held", "approval", "broken", "blocked"]
"""blocked: it waits for a run that waits for a person, will not begin, or that nobody knows, in a circle, or for its stack's settings."""
_SHARE = 2.0
"""Steps of priority that each run of a user at work costs the user's next one."""
_HOUR = 3600.0
_FARTHEST = 86_400.0
"""Seconds ahead that nothing is put off for: what is due later was written when a clock was wrong."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many runs of the queue are at work at once on a stack, and of each user; ``problem``: why nobody can tell."""

    at_once: int
    per_user: int
    problem: str | None = None

    def forbids(self, entry: QueueEntry, begun: Collection[QueueEntry], first: Collection[QueueEntry] = ()) -> str | None:
        """Return why a run may not begin beside those that have, and those that come ``first``; None when it may."""
        if self.problem is not None:
            return self.problem
        are = "are at work or come first" if any(one.stack == entry.stack for one in first) else "are at work"
        users = [one.user for one in (*begun, *first) if one.stack == entry.stack]
        if len(users) >= self.at_once:
            return f"{len(users)} of {self.at_once} runs {are} on {entry.stack} (queue_at_once)"
        mine = users.count(entry.user)
        return f"{mine} of {self.per_user} runs of {entry.user} {are} on {entry.stack} (queue_per_user)" if mine >= self.per_user else None


@dataclass(frozen=True, slots=True)
class AnyLimits:
    """The limits of an entry that may begin on any of some stacks."""

    stacks: Mapping[str, QueueLimits]

    @property
    def problem(self) -> str | None:
        """Why it can begin on none, whatever is at work; None: it can."""
        if not self.stacks:
            return "no stack here rents GPUs (invoke setup --all)"
        return (
            None
            if any(one.problem is None for one in self.stacks.values())
            else "; ".join(str(one.problem) for one in self.stacks.values())
        )

    def forbids(self, entry: QueueEntry, begun: Collection[QueueEntry], first: Collection[QueueEntry] = ()) -> str | None:
        """Return why a run may begin on none of the stacks; None when it may on one."""
        reasons = [limits.forbids(replace(entry, stack=stack), begun, first) for stack, limits in self.stacks.items()]
        return None if None in reasons else "; ".join(map(str, reasons)) or self.problem


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """One entry of the queue as it stands: ``starts`` is begun by the next worker that looks, the others say why they are not."""

    entry: QueueEntry
    state: PlaceState
    why: str = ""
    rank: float = 0.0
    way: str = ""
    """What a person can do about it, where the state does not say it."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """What the order is made of: entries that are not over, when each user had a turn last, limits by stack, what runs wait for."""

    entries: Collection[QueueEntry]
    turns: Mapping[str, float]
    limits: Callable[[str], QueueLimits | AnyLimits]
    """By where an entry is to begin."""
    readiness: Callable[[QueueEntry], Readiness]
    now: float


def places(view: QueueView) -> list[QueuePlace]:
    """Return all entries: those at work, those that begin now in their order, those that wait, and those that wait for a person."""
    begun = [entry for entry in view.entries if entry.state == "begun"]
    listed = [QueuePlace(entry, "at work", entry.reason or "") for entry in begun]
    ready: list[QueueEntry] = []
    kept: list[QueuePlace] = []
    for entry in view.entries:
        if entry.state != "queued":
            continue
        if (place := _kept(entry, view)) is None:
            ready.append(entry)
        else:
            kept.append(place)
    ordered = _ordered(ready, begun, view)
    stuck = [place.entry.run for place in ordered if place.state == "blocked"]
    return [*listed, *ordered, *sorted(_with_blocked(kept, stuck), key=lambda place: place.state != "waits")]


def _kept(entry: QueueEntry, view: QueueView) -> QueuePlace | None:
    """Return the place of an entry that something else than others' runs keeps back; None for one that is ready."""
    if entry.held is not None:
        return QueuePlace(entry, "held", f"held {entry.held}")
    if entry.approval == "needed":
        return QueuePlace(entry, "approval", f"waits for approval: {entry.approval_why}")
    if entry.not_before is not None and view.now < entry.not_before:
        return QueuePlace(entry, "waits", f"not before {format_time(entry.not_before)}")
    if is_later(entry.due, view.now):
        return QueuePlace(entry, "waits", f"tried again at {format_time(entry.due)}: {entry.reason or 'it could not be begun'}")
    readiness = view.readiness(entry) if entry.after else Readiness("ready")
    if readiness.state == "ready":
        return None
    if readiness.state == "broken":
        return QueuePlace(entry, "broken", str(readiness), way=readiness.way_out() if all(one.run for one in readiness.because) else "")
    return QueuePlace(entry, "blocked" if any(one.state == "unknown" for one in readiness.because) else "waits", str(readiness))


def is_later(due: float, now: float) -> bool:
    """Tell whether a worker is to wait until ``due``."""
    return now < due < now + _FARTHEST


def _with_blocked(kept: Collection[QueuePlace], stuck: Collection[str]) -> list[QueuePlace]:
    """Return places in which those that nothing but a person brings on say so: by way of what they wait for, or in a circle.

    ``stuck``: runs that wait for a person, though nothing of the queue keeps them back.
    """
    behind = {place.entry.run: {*place.entry.after} for place in kept}
    barred, free = behind.keys() | {*stuck}, set[str]()
    while moved := {
        place.entry.run for place in kept
        if place.state == "waits" and place.entry.run not in free and behind[place.entry.run].isdisjoint(barred - free)
    }:  # fmt: skip
        free |= moved
    circle = cycle({run: sorted(names & behind.keys()) for run, names in behind.items()})
    why = f"these wait for one another, so that none begins: {' -> '.join(circle)}"
    return [
        replace(place, state="blocked", why=why if place.entry.run in circle else place.why)
        if place.state == "waits" and place.entry.run not in free
        else place
        for place in kept
    ]


def _ordered(ready: Collection[QueueEntry], begun: Collection[QueueEntry], view: QueueView) -> list[QueuePlace]:
    """Return ready entries in the order in which they begin; from the first on that finds no place all of its stack or user wait."""
    own: dict[str, list[QueueEntry]] = {}
    for entry in ready:
        own.setdefault(entry.user, []).append(entry)
    for entries in own.values():
        entries.sort(key=lambda entry: (-_rank(entry, entry.submitted, view.now), entry.submitted, entry.id))
    at_work, turns, running = list(begun), dict(view.turns), Counter(entry.user for entry in begun)
    limits = {where: view.limits(where) for where in {entry.where for entry in ready}}
    starting: list[QueuePlace] = []
    while heads := [
        head for entries in own.values() if (head := next((one for one in entries if not limits[one.where].forbids(one, at_work)), None))
    ]:
        ranks = {head.id: _share(head, turns, running, view.now) for head in heads}
        chosen = max(heads, key=lambda head: (ranks[head.id], -head.submitted))
        starting.append(QueuePlace(chosen, "starts", rank=ranks[chosen.id]))
        own[chosen.user].remove(chosen)
        at_work.append(chosen)
        running[chosen.user] += 1
        turns[chosen.user] = view.now
    firsts = [place.entry for place in starting]
    waiting = [
        QueuePlace(
            one,
            "blocked" if limits[one.where].problem else "waits",
            limits[one.where].forbids(one, begun, firsts) or "",
            _share(one, turns, running, view.now),
        )
        for entries in own.values()
        for one in entries
    ]
    return [*starting, *sorted(waiting, key=lambda place: (-place.rank, place.entry.submitted))]


def _rank(entry: QueueEntry, since: float, now: float) -> float:
    return entry.priority + max(now - since, 0.0) / _HOUR


def _share(entry: QueueEntry, turns: Mapping[str, float], running: Mapping[str, int], now: float) -> float:
    return _rank(entry, max(entry.submitted, turns.get(entry.user, 0.0)), now) - _SHARE * running.get(entry.user, 0)
