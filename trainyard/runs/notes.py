"""Events of a run in the ledger, written on the way: a ledger that cannot be written costs nobody a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainyard.errors import TrainyardError
from trainyard.runs.context import Context
from trainyard.runs.ledger import Ledger
from trainyard.runs.record import Record
from trainyard.runs.summary import cost


def note(context: Context, record: Record, kind: str, **data: Any) -> None:
    """Record that something happened to a run, now; say it when that cannot be written."""
    _written(context, lambda ledger: ledger.add(record.id, kind, **data))


def note_cost(context: Context, record: Record) -> None:
    """Record what an attempt has cost so far; say it when that cannot be written."""
    _written(context, lambda ledger: ledger.set_cost(record.id, record.created, cost(record)))


def _written(context: Context, write: Callable[[Ledger], None]) -> None:
    try:
        write(Ledger(context.places.ledger))
    except (OSError, TrainyardError) as error:
        why = error.message if isinstance(error, TrainyardError) else error
        context.ui.warn(f"the ledger cannot be written, the run goes on without it: {why}")
