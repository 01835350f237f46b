"""What the queue knows of a run that has no record here: it has not begun, never will, or was begun elsewhere."""

from __future__ import annotations

from trainyard.clock import format_time
from trainyard.errors import TrainyardError, UserError
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.queue import QueueEntry, QueueRows


def as_queued(ledger: Ledger, reference: str, error: UserError) -> UserError:
    """Return what the queue says of a run that a person means; ``error`` where it does not know it either, or does not answer."""
    user, _, label = reference.strip("/").rpartition("/")
    try:
        entries = QueueRows(ledger.database).named(label, user or None)
    except TrainyardError as silent:
        hint = f"{error.hint}\n" if error.hint else ""
        return UserError(error.message, hint=f"{hint}Whether it waits in the queue cannot be told: {silent.message}")
    return (_said(entries[-1]) if entries else None) or error


def _said(entry: QueueEntry) -> UserError | None:
    if entry.state == "queued":
        hint = f"Why it waits: invoke queue; out of it: invoke cancel {entry.run}"
        return UserError(f"{entry.run} waits in the queue: it has not begun", hint=hint)
    if entry.state == "begun":
        host = (entry.worker or entry.machine).split()[0]
        hint = (
            f"There it is followed and ended. From here: invoke end POD --stack {entry.stack} ends its pod as it stands;\n"
            f"invoke show {entry.run} --stack {entry.stack} names it, or without a bucket: invoke reap --stack {entry.stack} --dry-run"
        )
        return UserError(f"{entry.run} was begun by a worker on {host}, and its record is not here", hint=hint)
    if entry.outcome not in ("withdrawn", "rejected"):
        return None
    when = "" if entry.ended is None else f" at {format_time(entry.ended)}"
    hint = f"To run it all the same, submit it again: invoke submit --stack {entry.asked}"
    return UserError(f"{entry.run} never began: it was {entry.outcome} by {entry.decided_by}{when}", hint=hint)
