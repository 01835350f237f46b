"""What is told when a run is left as it is: the trouble, the pod with its price and its lease's end, the command that goes on."""

from __future__ import annotations

import time

from trainyard.clock import parse_time
from trainyard.errors import Detached, DiskFull, StillThere, TrainyardError
from trainyard.faults import readable
from trainyard.files import is_gone
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import leaseend
from trainyard.runs.records.pods import unproved_pods
from trainyard.runs.records.progress import duration
from trainyard.runs.records.record import RunFolder, RunRecord


def standing(record: RunRecord) -> str:
    """Return what stands there, what it costs and until when."""
    pod = record.pod
    if not pod.pod_id:
        return (
            ", ".join(f"pod {one.id} (${one.price_per_hour or 0:.2f}/h)" for one in unproved_pods(record))
            or "what the run's stack has made"
        )
    until = f" until the end of its lease, {pod.end}{_time_left(pod.end)}" if pod.end else ""
    return f"pod {pod.pod_id} (${pod.price:.2f}/h{until})"


def end_command(record: RunRecord) -> str:
    """Return the command that ends a run's pod without anything but the cloud's key."""
    return f"invoke end {record.pod.pod_id} --stack {record.environment}"


def untouched(context: CommandContext, record: RunRecord, folder: RunFolder, error: BaseException) -> TrainyardError:
    """Return the error that tells a controller's trouble, which has changed nothing about the run."""
    trouble = readable(error, lambda: context.places.logs)
    kind, why = (DiskFull, _full(trouble, error)) if isinstance(trouble, DiskFull) else (StillThere, str(trouble))
    if record.judged and record.pods and not unproved_pods(record):
        # Its pods are proved gone: only what is kept here is concerned.
        return DiskFull(why, hint=f"Then: invoke attach {record.id}") if kind is DiskFull else trouble
    return kind(f"{why}\n{_state(record)} {standing(record)} is left as it is.", hint=_next(record, folder))


def detached(record: RunRecord, folder: RunFolder, how: str) -> Detached:
    """Return what a person who leaves must know: nobody but the pod looks after the run from now on."""
    outside = leaseend.who_ends(record)
    waits = f"waits on the pod for somebody to come back{'' if outside else ', no longer than its lease'}"
    if record.commits_alone:
        minutes = duration(60 * record.commit_alone_minutes)
        waits = f"is committed by the pod itself{'' if outside else ', which then ends'}, {minutes} after it last heard of a controller"
    if record.reached("trained"):
        rest = f"its result is not safe yet and {waits}"
    elif folder.cancelled or record.stop_reason:
        rest = f"the training saves and stops, at the latest when somebody comes back; what it leaves {waits}"
    else:
        rest = f"the training goes on; when it is done, its result {waits}"
    end = f"End it without saving: invoke cancel {record.id} --now" if folder.cancelled else f"End it with: invoke cancel {record.id}"
    then = f"\n{outside[0].upper()}{outside[1:]}" if outside else ""
    return Detached(
        f"detached ({how}): {rest}.\n{record.id} stands on {standing(record)}{then}",
        hint=f"Come back with: invoke attach {record.id}\n{end}",
    )


def _full(full: DiskFull, error: BaseException) -> str:
    """Return which disk is full and what to do; where another error stands before it, that one says what was being written."""
    said = error.message if isinstance(error, TrainyardError) and not isinstance(error, DiskFull) else ""
    return "\n".join(filter(None, [said, "" if full.message in said else full.message, full.hint]))


def _state(record: RunRecord) -> str:
    if record.judged:
        safe = "Its result is safe. " if record.result else ""
        return f"{record.id} is over. {safe}But"
    if record.reached("trained"):
        return f"The training of {record.id} is done and its result is not safe yet:"
    if record.begun:
        return f"The training of {record.id} is not touched by this:"
    return f"{record.id} has not started:"


def _next(record: RunRecord, folder: RunFolder) -> str:
    if is_gone(folder.path / "run.json"):
        return (
            f"The record of the run is gone, and it cannot be written again. Its SSH key lay beside it: with a copy of that,\n"
            f"take it over with: invoke adopt {record.pod.pod_id} --stack {record.environment} --key FILE\n"
            f"or end it without saving: {end_command(record)}"
        )
    over = record.judged
    other = end_command(record) if over and record.pod.pod_id else f"invoke cancel {record.id} --now"
    return f"Go on with: invoke attach {record.id}\n{'Or end the pod alone' if over else 'Or end it without saving'}: {other}"


def _time_left(end: str) -> str:
    moment = parse_time(end)
    seconds = moment.timestamp() - time.time() if moment else 0.0
    return f" (in {duration(seconds)})" if seconds > 0 else ""
