"""What runs of this checkout have reserved and need no more: the ledger was not told of their end, or they never began."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.errors import Busy, TrainyardError, UserError, in_short
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.records import attempts
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import cost, stages_of

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger

_PATIENCE = 1.0
"""Seconds that another process's write is waited for: whoever recovers has pods to end."""


def release_ended(context: CommandContext) -> int:
    """Record the end, and the cost, of each run here that is over and still has dollars reserved; return how many there were.

    A ledger that was silent at a run's end knows neither; of a process that was killed before its run was whole there is
    only what it had reserved. Trouble with the ledger is said.
    """
    try:
        ledger = context.ledger(_PATIENCE)
        released = sum(_release(ledger, context.places.runs, run, token) for run, token in ledger.reserved().items())
    except (OSError, TrainyardError) as error:
        context.ui.warn(f"what ended runs have reserved stays so: {in_short(error)}")
        return 0
    if released:
        context.ui.say(f"ledger     {released} run{'s' * (released > 1)} whose end it was not told: what was reserved is free")
    return released


def _release(ledger: Ledger, runs: Path, run: RunId, token: str) -> bool:
    folder = RunFolder(run.folder(runs))
    if not folder.path.is_dir():
        return bool(token) and attempts.is_abandoned(runs, run, token) and ledger.end(run, 0.0, None, cost=0.0)
    try:
        with folder.driving():
            record = folder.load()
            if not record.reached("ended") or token not in ("", record.token):
                return False
            return ledger.end(run, record.created, cost(record), cost=cost(record), stages=dict(stages_of(record)))
    except (Busy, UserError):
        return False  # somebody sees to it, or nobody can tell
