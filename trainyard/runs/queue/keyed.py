"""Idempotency keys of ``submit``: said again within a day, a key gives the entry that it gave first, however its run went."""

from __future__ import annotations

from collections.abc import Callable

from trainyard.clock import format_time
from trainyard.errors import RefusedError
from trainyard.ledger.keys import StartKey, key_row
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.runs.context import CommandContext
from trainyard.runs.records.acts import record_act
from trainyard.runs.verbs.keyed import refuse_other

_TAKEN_OUT = ("withdrawn", "rejected")


def submit_once(context: CommandContext, start: StartKey | None, put: Callable[[], QueueEntry]) -> QueueEntry:
    """Put an entry into the queue, or return the one that the key stands for: never a second one, however many say it at once.

    Raises what entry_of_key() does.
    """
    if start is None:
        return put()
    known = entry_of_key(context, start)
    if known is None:
        try:
            return put()
        except RefusedError:  # the key was taken meanwhile, or the run's name by whoever took it
            known = entry_of_key(context, start)
            if known is None:
                raise
    record_act(context, "use key", known.run, key=start.key)
    return known


def entry_of_key(context: CommandContext, start: StartKey) -> QueueEntry | None:
    """Return the entry that a key stands for, as it stands now, having said so; None for a new key.

    Raises RefusedError where the key was said for another request, or a person has taken its entry out.
    """
    database = context.ledger().database
    row = key_row(database, start.key)
    if row is None:
        return None
    refuse_other(row, start)
    entry = QueueRows(database).entry(row.token or "")
    if entry is None or entry.outcome in _TAKEN_OUT:
        why = "which the queue does not know any more" if entry is None else f"which was {entry.outcome} by {entry.decided_by}"
        raise RefusedError(f"key '{row.key}' stands for run {row.run}, {why}; nothing was submitted", hint="Say another key.")
    context.ui.say(f"key        {row.key}: run {row.run}, submitted {format_time(row.time)} by {row.user} on {row.machine}; no other is")
    return entry


def exit_status_of(entry: QueueEntry) -> int:
    """Return the exit code of a submission: 1 where its run is over without success, else 0."""
    return int(entry.state == "over" and entry.outcome != "succeeded")
