"""What the queue knows of a run that has no record: it has not begun, or never will."""

from __future__ import annotations

from trainyard.clock import format_time
from trainyard.errors import TrainyardError, UserError
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.queue import QueueEntry, QueueRows


def not_begun(ledger: Ledger, reference: str) -> UserError | None:
    """Return what is to be said of the run that a person means, None where the queue does not know it either, or does not answer."""
    user, _, label = reference.strip("/").rpartition("/")
    try:
        entries = QueueRows(ledger.database).named(label, user or None)
    except TrainyardError:
        return None
    return _said(entries[-1]) if entries else None


def _said(entry: QueueEntry) -> UserError | None:
    if entry.state == "queued":
        hint = f"Why it waits: invoke queue; out of it: invoke cancel {entry.run}"
        return UserError(f"{entry.run} waits in the queue: it has not begun", hint=hint)
    if entry.outcome not in ("withdrawn", "rejected"):
        return None
    when = "" if entry.ended is None else f" at {format_time(entry.ended)}"
    hint = f"To run it all the same, submit it again: invoke submit --stack {entry.stack}"
    return UserError(f"{entry.run} never began: it was {entry.outcome} by {entry.decided_by}{when}", hint=hint)
