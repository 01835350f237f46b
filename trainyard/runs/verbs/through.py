"""Drive a run to its end, and on: where the cloud has taken its pod, its next attempt follows by itself, as often as was asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from trainyard.clock import REAL, Clock
from trainyard.errors import CloudError, StoreError, TrainyardError
from trainyard.retries import Backoff
from trainyard.runs.context import CommandContext
from trainyard.runs.life.drive import drive
from trainyard.runs.life.finish import sync_line
from trainyard.runs.records import attempts
from trainyard.runs.records.notes import cancelled_elsewhere, ended_by_hand, note
from trainyard.runs.records.progress import duration
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import RunSummary, last_lines, succeeded, summarize
from trainyard.runs.signals import NothingRented, how, leave_if_asked, leaving

_PAUSES = Backoff(30.0, 300.0)
PATIENCE = 3600.0
"""Seconds in which a cloud without an offer is asked again: nothing is rented meanwhile."""

_FRESH = 86_400.0
"""Seconds after which nothing is rented any more for a run that nobody has come back to: `invoke resume` does."""


def begin(context: CommandContext, prepare: Callable[[], RunFolder], *, detach: bool = False) -> RunSummary:
    """Prepare a run and drive it to its end (or ``detach``: to a training that runs and is left to its pod).

    Raises NothingRented when somebody leaves while it is prepared, and what prepare() and drive() raise.
    """
    try:
        with leaving():
            folder = prepare()
            leave_if_asked(context.ui.leaves)
    except KeyboardInterrupt as left:
        raise NothingRented(f"interrupted ({how(left)}): nothing was rented") from None
    return through(context, folder, detach=detach)


def through(
    context: CommandContext, folder: RunFolder, cancel: Literal["now", "saving"] | None = None, clock: Clock = REAL, *, detach: bool = False
) -> RunSummary:
    """Drive an attempt to its end (or ``detach``), and those that follow it by themselves; return the last one's summary.

    Raises what drive() does.
    """
    while True:
        summary = drive(context, folder, cancel, detach=detach)
        if detach and cancel is None and summary.ended_at is None and (cancel := cancel_told(folder)):
            continue  # while the training was left to its pod; who said it was told that this process sees to it
        following = go_on(context, folder, clock)
        if following is None:
            return summary
        folder, cancel = following, None


def cancel_told(folder: RunFolder) -> Literal["now", "saving"] | None:
    """Return how somebody has said that a run is to end, None where nobody has."""
    return "now" if folder.cancelled_now else "saving" if folder.cancelled else None


def is_due(record: RunRecord) -> bool:
    """Tell whether an attempt that has ended is to be followed by another one."""
    fresh = record.ended is not None and time.time() - record.ended < _FRESH
    return record.lost and fresh and record.resumes > 0 and record.reached("ended") and not (record.cancelled or succeeded(record))


def go_on(context: CommandContext, folder: RunFolder, clock: Clock = REAL) -> RunFolder | None:
    """Return the folder of the attempt that follows, None where none is asked for, or it may not be; that is said, and final."""
    record = folder.load()
    if not is_due(record) or attempts.at_home(context.places, record.user, record.label) > record.attempt:
        return None
    if cancelled_elsewhere(context, record) or (record.pod.pod_id and ended_by_hand(context, record, record.pod.pod_id)):
        # It may have been told of while this process saw to the lost pod: who ended that wants no other.
        context.ui.say(f"resume     {record.id} does not go on by itself: a person has ended it")
        record.cancelled = True
        folder.save(record)
        return None
    summary = summarize(record, folder)
    for line in last_lines(summary, sync_line(context, summary), context.rehearsal):
        context.ui.say(line)
    context.ui.say(f"resume     the pod of {record.id} was lost: it goes on by itself (tries left, with this one: {record.resumes})")
    try:
        with leaving():
            following = _prepared(context, record, clock)
    except TrainyardError as error:
        context.ui.fail(f"{record.id} does not go on by itself: {error}")
        following = None
    note(context, record, "resumed", by="itself", attempt=following.load().attempt if following else None)
    record.resumes = 0  # it has had its turn
    folder.save(record)
    return following


def _prepared(context: CommandContext, record: RunRecord, clock: Clock) -> RunFolder:
    """Prepare the next attempt, waiting for an offer (or the store); raises what still refuses it then."""
    from trainyard.runs.verbs.resume import ResumeRequest, prepare

    request = ResumeRequest(f"{record.user}/{record.label}/{record.attempt}", record.environment, yes=True)
    began, tries = clock.now(), 0
    while True:
        try:
            return prepare(context, request, resumes=record.resumes - 1, from_start=True)
        except (CloudError, StoreError) as error:
            tries += 1
            pause = _PAUSES.pause(tries)
            if (isinstance(error, StoreError) and not error.passing) or clock.now() + pause - began > PATIENCE:
                raise
            leave_if_asked(context.ui.leaves)
            context.ui.warn(f"{error.message}\nnothing is rented; tried again in {duration(pause)}")
            clock.pause(pause)
