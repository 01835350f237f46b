"""The queue as a person reads it: a line an entry, and below it why it waits; nothing is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from trainyard.ledger.queue import QueueEntry
from trainyard.runs.queue.order import QueuePlace
from trainyard.runs.records.progress import duration

_HEADS = ("run", "state", "prio", "waited", "$ at most", "stack")
_INDENT = "    "


def lines(places: Sequence[QueuePlace], now: float) -> list[str]:
    """Return the entries in their order, those at work first, and a line that counts them."""
    if not places:
        return ["nothing is in the queue"]
    table = [_HEADS, *(_cells(place, now) for place in places)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table]
    text = [rows[0]]
    for place, row in zip(places, rows[1:], strict=True):
        text += [row, *(f"{_INDENT}{line}" for line in _below(place))]
    return [*text, counted(word_of(place) for place in places)]


def counted(words: Iterable[str]) -> str:
    """Return how many entries stand in each way: `2 at work, 1 held`."""
    return ", ".join(f"{count:,} {word}" for word, count in Counter(words).items())


def plan_lines(places: Sequence[QueuePlace]) -> list[str]:
    """Return what the next worker would begin, in that order, and why it would begin nothing else."""
    starting = [place for place in places if place.state == "starts"]
    kept = [place for place in places if place.state not in ("starts", "at work")]
    most = sum(place.entry.estimate or 0.0 for place in starting)
    cost = f", at most ${most:.2f}" if starting else ""
    return [
        *(f"begins     {place.entry.run} on {place.entry.where} (rank {place.rank:.1f})" for place in starting),
        *(f"waits      {place.entry.run}: {(place.why or place.state).splitlines()[0]}" for place in kept),
        f"plan       {len(starting)} would begin now{cost}; {len(kept)} would not",
    ]


def as_rows(places: Sequence[QueuePlace]) -> list[dict[str, object]]:
    """Return the queue for scripts."""
    return [{"run": place.entry.run, **asdict(place.entry), "state": place.state, "why": place.why, "rank": place.rank} for place in places]


def word_of(place: QueuePlace) -> str:
    """Return how an entry stands, in the word that a person reads."""
    return {"starts": "queued", "waits": "queued", "approval": "to approve"}.get(place.state, place.state)


def _cells(place: QueuePlace, now: float) -> tuple[str, ...]:
    entry = place.entry
    most = "?" if entry.estimate is None else f"{entry.estimate:.2f}"
    return (entry.run, word_of(place), str(entry.priority), duration(max(now - entry.submitted, 0.0)), most, _stack_of(entry))


def _stack_of(entry: QueueEntry) -> str:
    return f"{entry.stack} (auto)" if entry.auto and entry.state != "queued" else entry.where


def _below(place: QueuePlace) -> list[str]:
    entry, why = place.entry, place.why.partition("\n")[0]
    ways = {
        "approval": f"invoke approve {entry.run}, or invoke reject {entry.run}",
        "held": f"invoke queue.release {entry.run}",
        "broken": f"Out of the queue: invoke cancel {entry.run}",
    }
    return [line for line in (why, place.way, ways.get(place.state)) if line]
