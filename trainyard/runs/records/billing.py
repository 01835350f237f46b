"""Ask the cloud for the bill of a run's pods, after their end: no run waits for it, and what comes late is filled in later."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.records import bills
from trainyard.runs.records.notes import note
from trainyard.runs.records.record import RunRecord

BILLED = "billed"
"""Kind of the event that tells a run's bill: its dollars, what was reckoned, and whether it is whole."""
_PATIENCE = 2.0
"""Seconds in which a cloud has to answer."""


def ask(context: CommandContext, record: RunRecord, patience: float = _PATIENCE) -> bool:
    """Take into the record what the cloud bills for its pods, if it answers soon; tell whether that is news. Nothing is written."""
    now, before, answers = time.time(), bills.bill_of(record), dict[str, float]()
    pod_ids = bills.due(record, now)
    if not pod_ids:
        return False
    thread = threading.Thread(target=_ask, args=(context, record, pod_ids, answers), name="bill", daemon=True)
    thread.start()
    thread.join(patience)
    for pod_id, dollars in list(answers.items()):
        bills.take(record, pod_id, dollars, now)
    return bills.bill_of(record) != before


def note_billed(context: CommandContext, record: RunRecord) -> None:
    """Record the bill of a run in the ledger."""
    if (bill := bills.bill_of(record)) is not None:
        note(context, record, BILLED, dollars=bill.billed, computed=bill.computed, whole=bill.whole)


def _ask(context: CommandContext, record: RunRecord, pod_ids: Sequence[str], answers: dict[str, float]) -> None:
    try:
        cloud = context.cloud_of(record)
        for pod_id in pod_ids:
            if (billed := cloud.billed(pod_id)) is None:
                return  # this cloud sends no bills
            answers[pod_id] = billed
    except TrainyardError:
        return  # without a key, or an answer: it is asked for again later
