"""Come back to runs: attach to one, recover all that nobody drives, cancel."""

from __future__ import annotations

from typing import Any

from trainyard.errors import Busy, TrainyardError, Unreachable, UserError
from trainyard.runs.context import Context
from trainyard.runs.drive import Detached, drive
from trainyard.runs.ledger import Ledger
from trainyard.runs.record import Record, all_folders

_POLL = 2.0


def attach(context: Context, reference: str) -> dict[str, Any]:
    """Drive the run to its end, or watch while another controller does and take over when that one dies."""
    folder = context.folder(reference)
    while True:
        try:
            return drive(context, folder)
        except Busy as busy:
            context.ui.say(f"attach     {busy.message}; watching")
            from trainyard.runs import follow

            try:
                follow.watch_files(context, folder, poll=_POLL)
            except KeyboardInterrupt:
                raise Detached(str(folder.load().id)) from None


def recover(context: Context) -> list[dict[str, Any]]:
    """Drive every run that is not ended and that no living process drives; return their summaries.

    A run that cannot be finished does not keep the others from it; its error is raised when all were tried.
    """
    summaries: list[dict[str, Any]] = []
    failed: TrainyardError | None = None
    for folder in all_folders(context.places.runs):
        try:
            record = folder.load()
            if record.reached("ended"):
                continue
            context.ui.say(f"recover    {record.id} (was: {record.phase})")
            summaries.append(drive(context, folder))
        except Busy as busy:
            context.ui.say(f"           left alone: {busy.message}")
        except TrainyardError as error:
            context.ui.fail(str(error))
            failed = failed or error
    if failed is not None:
        raise failed
    return summaries


def cancel(context: Context, reference: str, *, now: bool = False) -> dict[str, Any] | None:
    """End a run: stop its training (which saves), commit what it left, end the pod.

    With ``now`` nothing is saved. Where another controller drives the run, only the training is stopped and
    that controller finishes the story; None is returned then.
    """
    folder = context.folder(reference)
    if folder.load().reached("ended"):
        raise UserError(f"run {folder.load().id} has ended already")
    folder.cancel(now=now)
    # Read after the mark was set; the driver looks for the mark after it has written "started": one sees the other.
    record = folder.load()
    Ledger(context.places.ledger).add(record.id, "cancel", now=now)
    if record.reached("started") and not record.reached("trained") and not now:
        _stop_training(context, record)
    try:
        with folder.driving():
            record = folder.load()
            record.cancelled = True
            if now or not record.reached("started"):
                record.error = record.error or "cancelled"
            folder.save(record)
    except Busy as busy:
        told = "the training is told to stop" if record.reached("started") and not now else "nothing more is saved" if now else "it is told"
        context.ui.say(f"cancel     {told}; {busy.message}, which ends the pod and finishes the story")
        return None
    return drive(context, folder)


def _stop_training(context: Context, record: Record) -> None:
    from trainyard.runs import follow
    from trainyard.runs.pod import pod_of

    try:
        follow.stop(pod_of(context, record))
    except Unreachable as error:
        context.ui.warn(f"the pod does not answer ({error.message}); it is ended without saving")
    except TrainyardError as error:
        context.ui.warn(str(error))
