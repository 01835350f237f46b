"""Leave a training to its pod: it runs, the pod can commit alone, the bucket knows of it. Whoever comes next finishes the story."""

from __future__ import annotations

import time
from collections.abc import Callable

from trainyard.errors import EngineError, PodFailed, TrainyardError
from trainyard.retries import LINK
from trainyard.runs.context import CommandContext
from trainyard.runs.life import follow, trouble
from trainyard.runs.life.joblink import link_of
from trainyard.runs.life.publish import publish_now
from trainyard.runs.planning import leaseend
from trainyard.runs.records.notes import note
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import place_of

_TRIES = 5


def leave(context: CommandContext, record: RunRecord, folder: RunFolder) -> bool:
    """Return True when the training runs and needs nobody here, False when it is over (or its pod is): that is for the caller to finish.

    Raises Detached when it runs and its pod has no plan to commit alone with, though one was wanted; Unreachable when
    the pod does not answer and the cloud does not say that it is gone.
    """
    if not _is_running(context, record, folder):
        return False
    try:
        _hand_over(context, record, folder)
    except (OSError, TrainyardError) as error:
        raise trouble.detached(record, folder, f"the pod cannot commit alone: {error}") from None
    publish_now(context, record, folder)
    note(context, record, "detached", commits_alone=record.commits_alone)
    return True


def _is_running(context: CommandContext, record: RunRecord, folder: RunFolder) -> bool:
    try:
        link = link_of(context, record, folder)
    except EngineError:
        if follow.gone_with_its_key(context, record) is None:
            raise
        return False

    def ask() -> bool:
        try:
            return link.status().state == "running"
        except TrainyardError:
            if follow.ended_from_outside(context, record, link.pod) is not None:
                return False
            raise

    return _patiently(ask)


def _hand_over(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    record.commits_alone = _patiently(link_of(context, record, folder).hand_over)
    folder.save(record)


def _patiently(call: Callable[[], bool]) -> bool:
    """Return what a call gives, trying again while its trouble may pass: the training goes on meanwhile."""
    attempt = 1
    while True:
        try:
            return call()
        except (OSError, TrainyardError) as error:
            if attempt == _TRIES or isinstance(error, PodFailed):
                raise
        time.sleep(LINK.pause(attempt))
        attempt += 1


def lines_of(record: RunRecord) -> list[str]:
    """Return what a person reads of a run that was left: what becomes of it, and how to come back."""
    outside = leaseend.who_ends(record)
    if record.commits_alone:
        alone = f"its pod commits the result {record.commit_alone_minutes:g} min after the training"
        rest = alone if outside else f"{alone} and ends itself"
    else:
        rest = "its pod cannot commit alone: the result waits on it" + ("" if outside else ", no longer than its lease")
    stack = "" if record.environment == "local" else f" --stack {record.environment}"
    return [
        f"run {record.id} trains on {trouble.standing(record)}",
        f"detached   {'' if outside else 'nothing here need go on: '}{rest}",
        *([f"its end    {outside}"] if outside else []),
        f"come back  invoke attach {record.id}   (follow it, finish its story)",
        "or, later  invoke recover   (any clone with the bucket: seals what pods have committed alone)",
        f"fetch it   invoke download {record.id} {place_of(record.label, record.attempt)}{stack}",
        f"end it     invoke cancel {record.id}",
    ]
