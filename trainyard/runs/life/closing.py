"""What is done when a run is judged: its pod is ended, and what is kept of it is written, here and in its bucket."""

from __future__ import annotations

import time
from dataclasses import replace

from trainyard.errors import DiskFull
from trainyard.faults import readable
from trainyard.runs.context import CommandContext
from trainyard.runs.life import announcing, jobkeys, teardown
from trainyard.runs.records import billing
from trainyard.runs.records.datadeletion import deletion
from trainyard.runs.records.notes import note_over
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import RunSummary, succeeded, summarize, write_summary


def close(context: CommandContext, record: RunRecord, folder: RunFolder) -> RunSummary:
    """End the pod of a judged run, then tell; what cannot be written after that is said and changes nothing."""
    fresh = not record.reached("ended")
    if fresh:
        with announcing.leaks(context, record):
            teardown.destroy_run(context, record, folder)
        jobkeys.withdraw(context, record)
        record.ended, record.phase = time.time(), "ended"
        record.data = replace(record.data, deleted=deletion(record))
    try:
        _tell(context, record, folder)
        _settle(context, record, folder)
    except Exception as error:
        why = readable(error, lambda: context.places.logs)
        context.ui.fail(f"the pod of {record.id} is gone; what is kept of the run here could not all be written: {why.message}")
        summary = summarize(record, folder)
        return replace(summary, exit_status=summary.exit_status or (why.exit_code if isinstance(why, DiskFull) else 0))
    finally:
        if fresh:
            announcing.ended(context, summarize(record, folder))
    return summarize(record, folder)


def _settle(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Leave nothing half done in the bucket; what only came home is pushed, and a delivery begun, now that no pod waits for it."""
    if record.begun and record.bucket:
        from trainyard.runs.life import roads

        if roads.settle(context, record, folder):
            write_out(context, record, folder)
    from trainyard.runs.life import delivering, drawing

    if delivering.begin(context, record, folder):
        write_out(context, record, folder)
    drawing.begin(context, record, folder)


def write_out(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Write record and summary, and bring home what a person looks at."""
    from trainyard.runs.records.home import bring_home

    folder.save(record)
    write_summary(record, folder)
    bring_home(context, record, folder)


def _tell(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    from trainyard.runs.life.publish import newest_checkpoint, publish_now

    if not succeeded(record):
        record.checkpoint = newest_checkpoint(context, record)
    folder.save(record)
    note_over(context, record)
    if billing.ask(context, record):
        billing.note_billed(context, record)
    write_out(context, record, folder)
    if record.begun:
        publish_now(context, record, folder)
