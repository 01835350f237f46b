"""Begin a run and go through with it, or come back to the run that an idempotency key stands for already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainyard.errors import Busy
from trainyard.ledger.keys import StartKey
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import RunSummary, summarize
from trainyard.runs.verbs.keyed import KeyedRun, begin_keyed
from trainyard.runs.verbs.through import begin, through


class _KnownKey(Exception):
    def __init__(self, run: KeyedRun) -> None:
        super().__init__(run.row.key)
        self.run = run


def begin_once(
    context: CommandContext, prepare: Callable[[StartKey | None], RunFolder], start: StartKey | None, *, detach: bool = False
) -> RunSummary | KeyedRun:  # fmt: skip
    """Begin a run and drive it to its end (or ``detach``); where its key stands for a run already, do so with that one.

    Returns the summary; a KeyedRun for one that is driven from elsewhere. Raises what begin() and attach() do.
    """

    begun = list[RunFolder]()

    def prepared() -> RunFolder:
        folder = begin_keyed(context, start, prepare)
        if isinstance(folder, KeyedRun):
            raise _KnownKey(folder)
        begun.append(folder)
        return folder

    try:
        return begin(context, prepared, detach=detach)
    except _KnownKey as known:
        key = known
    except Busy:
        if start is None or not begun:
            raise
        return _come_back(context, begun[0], detach=detach)  # who said the same key meanwhile was faster to drive it
    return key.run if key.run.folder is None else _come_back(context, key.run.folder, detach=detach)


def _come_back(context: CommandContext, folder: RunFolder, *, detach: bool) -> RunSummary:
    record = folder.load()
    if record.reached("ended"):
        return summarize(record, folder)
    if not detach:
        from trainyard.runs.verbs.attach import attach

        return attach(context, f"{record.id}/{record.attempt}")
    try:
        return through(context, folder, detach=True)
    except Busy:
        if not record.reached("started"):
            raise
        context.ui.say(f"run        {record.id} trains, and another process follows it")
        return replace(summarize(record, folder), exit_status=0)
