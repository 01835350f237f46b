"""Events of a run in the ledger, written on the way: a ledger that cannot be written costs nobody a training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trainyard.clouds.absence import Proof
from trainyard.errors import TrainyardError, in_short
from trainyard.ledger.rows import REMOVED, RunRow
from trainyard.runs.context import CommandContext
from trainyard.runs.events import StateEvent
from trainyard.runs.records.measured import MEASURED, measure
from trainyard.runs.records.pods import note_ended
from trainyard.runs.records.record import RunFolder, RunRecord, all_folders
from trainyard.runs.records.runrows import row_of, state_of
from trainyard.runs.records.summary import cost, stages_of

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger
    from trainyard.ledger.rows import LedgerEvent

CANCEL = "cancel"
"""Kind of the event that a person wants a run to end."""
RENTED = "rented"
"""Kind of the event that a pod of a run has come up; its data has the pod."""
BY_HAND = "end"
"""Kind of the event that a person ends a pod of a run; its data has the pod."""
_OFTEN = ("checkpoint",)
"""Events that change no row and come many times in a run."""
_PATIENCE = 1.0
"""Seconds that a write waits for another process's while a pod is rented: each of them is paid for."""


def note(context: CommandContext, record: RunRecord, kind: str, **data: Any) -> None:
    """Record that something happened to a run, now, and how it stands; say it when that cannot be written."""

    def write(ledger: Ledger) -> None:
        ledger.add(record.id, kind, **data)
        if kind not in _OFTEN:
            ledger.put_run(_row(context, record, data.get("estimate")))

    _write(context, record, write)
    if kind != MEASURED:  # figures for later estimates: nothing has happened to the run
        tell(context, record, kind)


def tell(context: CommandContext, record: RunRecord, kind: str) -> None:
    """Tell who listens that something happened to a run."""
    context.ui.state(StateEvent(str(record.id), record.attempt, kind, state_of(record), cost(record)))


def note_over(context: CommandContext, record: RunRecord) -> None:
    """Record that a run is over: what it has cost, the dollars of each stage, and what it tells of like runs."""
    news = list[bool]()

    def write(ledger: Ledger) -> None:
        news.append(ledger.end(record.id, record.created, cost(record), cost=cost(record), stages=dict(stages_of(record))))
        ledger.put_run(_row(context, record))

    _write(context, record, write)
    tell(context, record, "ended")
    if any(news) and (measured := measure(record, RunFolder(record.id.folder(context.places.runs)))) is not None:
        note(context, record, MEASURED, **asdict(measured))


def note_row(context: CommandContext, record: RunRecord, estimate: float | None = None) -> None:
    """Put how a run stands, and what it may cost where that is told; say it when that cannot be written."""
    _write(context, record, lambda ledger: ledger.put_run(_row(context, record, estimate)))


def note_removed(context: CommandContext, record: RunRecord) -> None:
    """Record that a person has removed what is known of a run, and forget its row; raises what the ledger raises."""
    ledger = context.ledger()
    ledger.end(
        record.id, record.created, cost(record), cost=cost(record), stages=dict(stages_of(record))
    )  # afterwards nobody could tell it
    ledger.add(record.id, REMOVED, token=record.token)
    ledger.remove_run(record.id, record.token)


def _row(context: CommandContext, record: RunRecord, estimate: float | None = None) -> RunRow:
    return row_of(record, RunFolder(record.id.folder(context.places.runs)), estimate)


def note_end(context: CommandContext, pod_id: str) -> bool:
    """Record with the run of a pod, where a record of one is here, that a person ends the pod now; tell whether there was one."""
    has_run = False
    for folder in all_folders(context.places.runs):
        try:
            record = folder.load()
        except (OSError, TrainyardError):
            continue  # a record that cannot be read keeps no pod alive
        if not record.reached("ended") and pod_id in (record.pod.pod_id, *(pod.pod_id for pod in record.pods)):
            note(context, record, BY_HAND, pod=pod_id)
            has_run = True
    return has_run


def note_proof(context: CommandContext, proof: Proof) -> None:
    """Note the ends that are proved in the records here of runs that nobody drives: who drives one has looked before he ends its pod."""
    ended = {gone.id for gone in proof.ended}
    for folder in all_folders(context.places.runs) if ended else ():
        with contextlib.suppress(OSError, TrainyardError):  # the pod is gone, whether or not that can be written
            if ended.isdisjoint(pod.pod_id for pod in folder.load().pods):
                continue
            with folder.driving():
                record = folder.load()
                note_ended(record, proof, record.pod.end)
                folder.save(record)


def ended_by_hand(context: CommandContext, record: RunRecord, pod_id: str) -> bool:
    """Tell whether ledger or bucket say that a person has ended a pod of a run; False where neither can be read."""
    return _is_told(context, record, BY_HAND, lambda event: event.data.get("pod") == pod_id)


def note_cancel(context: CommandContext, record: RunRecord) -> None:
    """Record that a person here wants a run to end that another machine drives; say it when that cannot be written."""
    _write(context, record, lambda ledger: ledger.add(record.id, CANCEL, now=True))


def cancelled_elsewhere(context: CommandContext, record: RunRecord) -> bool:
    """Tell whether a person has cancelled a run from another checkout, by the ledger or by its bucket; False where neither can be read."""
    return _is_told(context, record, CANCEL, lambda _: True)


def _is_told(context: CommandContext, record: RunRecord, kind: str, means: Callable[[LedgerEvent], bool]) -> bool:
    """Tell whether the ledger, or else the run's bucket, has such an event of it: other checkouts write into the bucket alone."""
    from trainyard.runs.records.mirror import events_in
    from trainyard.runs.records.stores import store_of

    with contextlib.suppress(OSError, TrainyardError):
        if any(map(means, context.ledger().events(record.id, kind=kind))):
            return True
    with contextlib.suppress(OSError, TrainyardError):
        store = store_of(context, record.bucket)
        return store is not None and any(event.kind == kind and means(event) for event in events_in(store, record.id))
    return False


def _write(context: CommandContext, record: RunRecord, write: Callable[[Ledger], None]) -> None:
    try:
        write(context.ledger(None if record.reached("ended") else _PATIENCE))
    except (OSError, TrainyardError) as error:
        why = in_short(error)
        context.ui.warn(f"the ledger cannot be written, the run goes on without it: {why}")
