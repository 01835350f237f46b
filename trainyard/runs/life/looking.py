"""Keep the pod of a training that failed for a look, where the stack's settings say so: within its lease and budget, loudly, at its price.

Its result is safe by then. The pod ends by itself when the time is over, whoever still lives then; where its cloud gives it no way to, this
command ends it, or whoever comes next.
"""

from __future__ import annotations

import json
import time

from trainyard.clock import REAL, Clock, format_time, parse_time
from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.life import announcing
from trainyard.runs.planning import leaseend
from trainyard.runs.records.notes import cancelled_elsewhere, note
from trainyard.runs.records.progress import duration
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import cost

STAGE = "look"
_SHORTEST = 60.0
"""Seconds below which nobody gets to look."""
_MARGIN = 60.0
"""Seconds before the end of its lease by which the pod is to be gone."""
_ELSEWHERE = 30.0
"""Seconds between two questions whether somebody has cancelled it from another checkout, or ended its pod."""


def minutes_of(text: str | None) -> float:
    """Return the minutes that ``keep_on_failure`` says, 0 for nothing."""
    return 0.0 if text is None else float(text[:-1]) * (60 if text[-1] == "h" else 1)


def is_kept(context: CommandContext, record: RunRecord, folder: RunFolder, *, waits: bool, clock: Clock = REAL) -> bool:
    """Keep a failed run's pod as long as its settings say, having said so; tell whether it is still kept when this returns.

    ``waits``: until the time is over, or somebody ends it (Ctrl-C, `invoke cancel` from anywhere). Trouble only means that it is not kept.
    """
    if not _deserves(record) or _is_ended(context, record, folder):
        return False
    if record.kept_until is None and not _begin(context, record, folder, clock.now()):
        return False
    until = record.kept_until or 0.0
    if not waits or clock.now() >= until:
        return clock.now() < until
    with folder.stage(record, STAGE):
        _wait(context, record, folder, until, clock)
    return False


def _deserves(record: RunRecord) -> bool:
    """Tell whether a training has failed by itself: what was stopped, cancelled or lost is not kept."""
    if not record.keep_minutes or record.cancelled or record.stop_reason or record.lost:
        return False
    return record.error is not None and record.exit_code is not None and record.result is not None


def _is_ended(context: CommandContext, record: RunRecord, folder: RunFolder) -> bool:
    return folder.cancelled or (record.kept_until is not None and cancelled_elsewhere(context, record))


def _begin(context: CommandContext, record: RunRecord, folder: RunFolder, now: float) -> bool:
    """Tell the pod until when it stays, then everybody; False, with the reason said, where that cannot be."""
    seconds = _seconds(record, now)
    if seconds < _SHORTEST:
        context.ui.warn("keep_on_failure: the pod is not kept for a look: its lease or its budget is nearly used up")
        return False
    if record.container is not None:
        context.ui.warn("keep_on_failure: the pod is not kept for a look: it has no SSH, and ends with its command")
        return False
    from trainyard.remote.transfer import put_bytes
    from trainyard.runs.records.pod import pod_of

    try:
        pod = pod_of(context, record)
        with pod.connect() as transport:
            put_bytes(transport, pod.path(".trainyard", "watchdog", "keep.json"), json.dumps({"seconds": seconds}).encode())
    except TrainyardError as error:
        context.ui.warn(f"keep_on_failure: the pod is not kept for a look: {error.message}")
        return False
    record.kept_until = now + seconds
    folder.save(record)
    note(context, record, "kept", until=format_time(record.kept_until))
    for line in lines_of(record, seconds):
        context.ui.warn(line)
    announcing.kept(context, record, lines_of(record, seconds))
    return True


def _seconds(record: RunRecord, now: float) -> float:
    """Return how long the pod may stay: what was asked for, within what is left of its lease and its budget."""
    end = parse_time(record.pod.end)
    left = [60 * record.keep_minutes] + ([end.timestamp() - _MARGIN - now] if end else [])
    if record.budget is not None and record.per_hour:
        left.append((record.budget - cost(record, now)) / record.per_hour * 3600)
    return min(left)


def lines_of(record: RunRecord, seconds: float) -> list[str]:
    """Return what a person must know of a pod that is kept: until when, its price, how one looks, how it is ended."""
    pod, dollars = record.pod, record.per_hour * seconds / 3600
    outside = leaseend.who_ends(record)
    most = f"${dollars:.2f} if it is ended then" if outside else f"at most ${dollars:.2f}; then it ends by itself"
    return [
        f"KEPT for a look: pod {pod.pod_id} stays {duration(seconds)}, until {format_time(record.kept_until)}, ${pod.price:.2f}/h, {most}",
        *([outside] if outside else []),
        f"Look at it: invoke ssh {record.id}",
        f"End it now: invoke cancel {record.id}",
    ]


def _wait(context: CommandContext, record: RunRecord, folder: RunFolder, until: float, clock: Clock) -> None:
    asked = time.monotonic()
    try:
        while clock.now() < until and not folder.cancelled:
            clock.pause(min(1.0, max(0.0, until - clock.now())))
            if time.monotonic() - asked >= _ELSEWHERE:
                asked = time.monotonic()
                if cancelled_elsewhere(context, record):
                    return
                if (word := _over(context, record)) is not None:
                    context.ui.warn(f"{word}: it is kept no longer")
                    return
    except KeyboardInterrupt:
        context.ui.say("kept       no longer: it is ended now")


def _over(context: CommandContext, record: RunRecord) -> str | None:
    """Return the cloud's word that the pod is gone: nobody can look at it, and what it cost would be reckoned to the end of the wait."""
    from trainyard.runs.records.pod import pod_of

    try:
        return pod_of(context, record).over()
    except TrainyardError:
        return None
