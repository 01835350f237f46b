"""Events of a run in the ledger, written on the way: a ledger that cannot be written costs nobody a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.ledger import Ledger
from trainyard.runs.records.record import RunRecord, all_folders
from trainyard.runs.records.summary import cost

_BY_HAND = "end"


def note(context: CommandContext, record: RunRecord, kind: str, **data: Any) -> None:
    """Record that something happened to a run, now; say it when that cannot be written."""
    _write(context, lambda ledger: ledger.add(record.id, kind, **data))


def note_cost(context: CommandContext, record: RunRecord) -> None:
    """Record what an attempt has cost so far; say it when that cannot be written."""
    _write(context, lambda ledger: ledger.set_cost(record.id, record.created, cost(record)))


def note_end(context: CommandContext, pod_id: str) -> None:
    """Record with the run of a pod, where one is known here, that a person ends the pod now."""
    for folder in all_folders(context.places.runs):
        try:
            record = folder.load()
        except (OSError, TrainyardError):
            continue  # a record that cannot be read keeps no pod alive
        if not record.reached("ended") and pod_id in (record.pod.pod_id, *(pod.pod_id for pod in record.pods)):
            note(context, record, _BY_HAND, pod=pod_id)


def ended_by_hand(context: CommandContext, record: RunRecord, pod_id: str) -> bool:
    """Tell whether the ledger says that a person here has ended a pod of a run; False where it cannot be read."""
    try:
        return any(event.data.get("pod") == pod_id for event in Ledger(context.places.ledger).events(record.id, kind=_BY_HAND))
    except (OSError, TrainyardError):
        return False


def shares_told(context: CommandContext, record: RunRecord) -> int:
    """Return the largest share of its budget (percent) of which the ledger says that it was told, 0 where it cannot be read."""
    try:
        return max((int(event.data["share"]) for event in Ledger(context.places.ledger).events(record.id, kind="budget")), default=0)
    except (OSError, TrainyardError, KeyError, ValueError):
        return 0


def _write(context: CommandContext, write: Callable[[Ledger], None]) -> None:
    try:
        write(Ledger(context.places.ledger))
    except (OSError, TrainyardError) as error:
        why = error.message if isinstance(error, TrainyardError) else error
        context.ui.warn(f"the ledger cannot be written, the run goes on without it: {why}")
