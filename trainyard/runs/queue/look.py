"""What the queue holds now, in its order, and why what waits does."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from trainyard.config import AUTO
from trainyard.errors import TrainyardError, UserError
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.waiting import Predecessor, Readiness, readiness
from trainyard.runs.queue.order import AnyLimits, QueueLimits, QueuePlace, QueueView, places
from trainyard.runs.verbs.auto import renting
from trainyard.runs.verbs.known import known_run, predecessor_of
from trainyard.runs.verbs.takeup import buckets
from trainyard.settings import reader

_GONE = ("withdrawn", "rejected")


def look(
    context: CommandContext, rows: QueueRows, now: float, more: Sequence[QueueEntry] = (), without: Collection[str] = ()
) -> list[QueuePlace]:  # fmt: skip
    """Return the queue in its order, with ``more`` entries and without those that wait and have an id of ``without``."""
    entries = [*(entry for entry in rows.entries() if entry.state != "queued" or entry.id not in without), *more]
    seen: dict[str, Predecessor] = {}

    def judge(entry: QueueEntry) -> Readiness:
        for name in entry.after:
            if name not in seen:
                seen[name] = _predecessor(context, rows, name, entries)
        return readiness(seen[name] for name in entry.after)

    return places(QueueView(entries, rows.turns(), lambda where: limits_of(context, where), judge, now))


def say_unknown(context: CommandContext, names: Sequence[str]) -> None:
    """Warn of runs to be waited for of which neither the queue, nor this machine, nor a bucket knows: a typing error is waited for, too."""
    rows = QueueRows(context.ledger().database) if names else None
    entries = rows.entries() if rows else []
    unknown = [name for name in names if rows and _predecessor(context, rows, name, entries).state == "unknown"]
    if unknown:
        context.ui.warn(f"nobody knows {', '.join(unknown)}: it does not begin before a run of that name is submitted and succeeds")


def limits_of(context: CommandContext, where: str) -> QueueLimits | AnyLimits:
    """Return how many runs of the queue the settings of a stack, or of all that ``auto`` chooses among, let be at work."""
    if where == AUTO:
        return AnyLimits({stack: _limits_of(context, stack) for stack in renting(context.places.root)})
    return _limits_of(context, where)


def _limits_of(context: CommandContext, stack: str) -> QueueLimits:
    try:
        settings = reader.partly(context.places.root, stack, "queue_at_once", "queue_per_user")
    except UserError as error:
        return QueueLimits(0, 0, f"stack '{stack}': {error.message}")
    return QueueLimits(settings.queue_at_once, settings.queue_per_user)


def _predecessor(context: CommandContext, rows: QueueRows, name: str, entries: Sequence[QueueEntry]) -> Predecessor:
    waiting = next((entry for entry in entries if entry.run == name), None)
    if waiting is not None:
        return Predecessor(name, "pending", "in the queue" if waiting.state == "queued" else "at work")
    user, _, label = name.rpartition("/")
    last = next(iter(reversed(rows.named(label, user))), None)
    if last is not None and last.outcome in _GONE:
        return Predecessor(name, "broken", str(last.outcome))
    try:
        known = known_run(context, buckets(context), user, label)
    except TrainyardError as error:
        return Predecessor(name, "pending", error.message)
    if known is not None:
        return predecessor_of(name, known)
    if last is not None:  # begun on another machine, by a worker of a stack without a bucket
        return Predecessor(name, "pending", f"{last.outcome}, and its result is not known here")
    return Predecessor(name, "unknown", "nobody knows it")
