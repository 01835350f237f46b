"""What a run waits for before it may begin, as plain data: a file of runs/ and an entry of the queue are judged alike.

A run begins when all it waits for have ended with success and their results are committed. Nothing is kept of a judgement:
a predecessor that failed and is resumed with success lets what waits for it begin.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

PredecessorState = Literal["succeeded", "pending", "broken", "unknown"]
"""pending: it has not begun, is at work, or its result is not sealed yet. broken: it is over without a committed success.
unknown: nobody has heard of it; it is waited for as one that is pending, but nothing brings it on."""
ReadinessState = Literal["ready", "waits", "broken"]


@dataclass(frozen=True, slots=True)
class Predecessor:
    """One run that another one waits for."""

    name: str
    """As it was asked for: a run file's stem, or user/label."""
    state: PredecessorState
    says: str = ""
    """How it stands, for a person: `here: started`, `failed`."""
    run: str = ""
    """user/label, where it is not the name; user/label/attempt of one that succeeded."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a run may begin, and the runs that keep it from that."""

    state: ReadinessState
    because: tuple[Predecessor, ...] = ()

    def __str__(self) -> str:
        """Return the sentence for a person; empty where nothing keeps the run."""
        each = ", ".join(f"{one.name} ({one.says})" if one.says else one.name for one in self.because)
        return {"ready": "", "waits": f"waits for {each}", "broken": f"will not begin: {each}"}[self.state]

    def way_out(self) -> str:
        """Return what a person can do about a broken one; empty for the others."""
        if self.state != "broken":
            return ""
        runs = [one.run or one.name for one in self.because]
        return f"Once {' and '.join(runs)} succeeded it begins: invoke resume {runs[0]}, or change what it ran."


def readiness(predecessors: Iterable[Predecessor]) -> Readiness:
    """Judge a run by what it waits for: broken by any that is broken, else waiting for any that is pending."""
    listed = tuple(predecessors)
    if broken := tuple(one for one in listed if one.state == "broken"):
        return Readiness("broken", broken)
    pending = tuple(one for one in listed if one.state in ("pending", "unknown"))
    return Readiness("waits", pending) if pending else Readiness("ready")


def in_order(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Return names so that each stands behind all it waits for, otherwise as they were; names that wait for nobody need no entry.

    Raises graphlib.CycleError where there is a cycle; ``cycle`` tells it.
    """
    return list(graphlib.TopologicalSorter({name: tuple(names) for name, names in after.items()}).static_order())


def cycle(after: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the names of one cycle, each waiting for the next, the first one again at the end; empty where there is none."""
    try:
        in_order(after)
    except graphlib.CycleError as error:
        return tuple(reversed(error.args[1]))
    return ()
