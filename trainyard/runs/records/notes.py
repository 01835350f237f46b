"""Events of a run in the ledger, written on the way: a ledger that cannot be written costs nobody a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.ledger import Ledger
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.summary import cost


def note(context: CommandContext, record: RunRecord, kind: str, **data: Any) -> None:
    """Record that something happened to a run, now; say it when that cannot be written."""
    _write(context, lambda ledger: ledger.add(record.id, kind, **data))


def note_cost(context: CommandContext, record: RunRecord) -> None:
    """Record what an attempt has cost so far; say it when that cannot be written."""
    _write(context, lambda ledger: ledger.set_cost(record.id, record.created, cost(record)))


def _write(context: CommandContext, write: Callable[[Ledger], None]) -> None:
    try:
        write(Ledger(context.places.ledger))
    except (OSError, TrainyardError) as error:
        why = error.message if isinstance(error, TrainyardError) else error
        context.ui.warn(f"the ledger cannot be written, the run goes on without it: {why}")
