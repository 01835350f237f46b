"""Bills that had not come when a run ended: asked for again by whoever lists runs, costs or pods, and filled in."""

from __future__ import annotations

import contextlib
import time

from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.records import billing, bills
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import write_summary

_EVERY = 600.0
"""Seconds in which a checkout asks once."""
_WINDOW = 29 * 86_400.0
"""Seconds for which a cloud tells what a pod was billed."""
_AT_ONCE = 20
_PATIENCE = 3.0
"""Seconds that all of it may take."""


def fill_in(context: CommandContext) -> None:
    """Ask for the bills of ended runs that are not known whole, for some seconds, and write down what is new; trouble is no matter."""
    stamp, now = context.places.home / "bills", time.time()
    with contextlib.suppress(OSError, TrainyardError):
        if stamp.exists() and 0 <= now - stamp.stat().st_mtime < _EVERY:
            return
        stamp.touch()
        due = context.ledger().unbilled(billing.BILLED, now - _WINDOW, _AT_ONCE)
        until = time.monotonic() + _PATIENCE
        for run in due:
            left = until - time.monotonic()
            folder = RunFolder(run.folder(context.places.runs))
            if left > 0 and folder.path.is_dir():
                with contextlib.suppress(TrainyardError):  # another process has it, or its record is damaged
                    _fill(context, folder, left)


def _fill(context: CommandContext, folder: RunFolder, patience: float) -> None:
    with folder.driving():
        record = folder.load()
        if not record.reached("ended") or not bills.due(record, time.time()):
            return
        if billing.ask(context, record, patience):
            billing.note_billed(context, record)
            write_summary(record, folder)
        folder.save(record)
