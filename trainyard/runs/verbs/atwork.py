"""An attempt that another checkout or machine has begun: may it still be at work? Told from its bucket, and by its cloud."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from trainyard.clock import format_time, parse_time
from trainyard.clouds import open_cloud
from trainyard.clouds.local.cloud import LocalCloud
from trainyard.errors import CloudError, UserError
from trainyard.jsontext import parse_json
from trainyard.runs.context import CommandContext
from trainyard.runs.records import attempts
from trainyard.runs.records.foreign import read_foreign
from trainyard.runs.records.record import RunRecord
from trainyard.storage import asked, markers
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey
from trainyard.storage.markers import Claim
from trainyard.storage.seal import read_each

_UNRENTED = 3600.0
"""Seconds in which an attempt of another machine that has told of no pod may still get one."""


@dataclass(frozen=True, slots=True)
class AttemptAtWork:
    """An attempt that may be at work, until a moment at most (epoch seconds)."""

    key: ResultKey
    claim: Claim | None
    record: RunRecord | None
    """As its bucket has it."""
    until: float

    def __str__(self) -> str:
        what = f"attempt {self.key.attempt} of {self.key.user}/{self.key.run} may be at work"
        return f"{what} ({self.claim or 'not claimed'}), until {format_time(self.until)} at most"

    def ways(self, verb: str) -> str:
        """Return the commands that do something about it: a verb where it was started, or its pod taken over here."""
        run, pod = f"{self.key.user}/{self.key.run}", self.record.pod.pod_id if self.record else None
        if self.record is None or pod is None:
            return f"Where it was started: invoke {verb} {run}."
        stack = self.record.environment
        take = "" if self.record.container else f" Or take it over here: invoke adopt {pod} --stack {stack} --key FILE"
        return (
            f"Where it was started: invoke {verb} {run}.{take}\nOr end its pod from here, saving nothing: invoke end {pod} --stack {stack}"
        )


def at_work(context: CommandContext, store: StoreSettings, key: ResultKey, record: RunRecord | None = None) -> AttemptAtWork | None:
    """Return an attempt that no record here tells of when it may still be at work, None when it is over.

    ``record``, where it is known, is the one that its bucket has.
    """
    if any(body is not None for body in read_each(store, (key.success, key.kept))):
        return None
    claim = markers.claim_of(store, key)
    if claim is not None and (claim.deleted or claim.token in attempts.tokens_here(context.places.runs, key.user, key.run)):
        return None  # what this checkout has claimed and made no run of is at work nowhere
    if record is None and (body := asked.record(store, key)) is not None:
        record = record_in(body, key)
    until = _until(record, claim)
    if until is None or until <= time.time() or (record is not None and (record.ended or _is_gone(context, record))):
        return None
    return AttemptAtWork(key, claim, record, until)


def record_in(body: bytes, key: ResultKey) -> RunRecord | None:
    """Return the record that a bucket holds of an attempt; one that cannot be read here, or is another's, is as if it were not there."""
    with contextlib.suppress(ValueError):
        return read_foreign(parse_json(body), key)
    return None


def _until(record: RunRecord | None, claim: Claim | None) -> float | None:
    """Return until when a pod may work on an attempt; None: nothing says that one does."""
    end = parse_time(record.pod.end) if record is not None else None
    began = parse_time(claim.time) if claim else None
    if end is not None:
        return end.timestamp()
    return began.timestamp() + _UNRENTED if began else None


def _is_gone(context: CommandContext, record: RunRecord) -> bool:
    """Tell whether the cloud says that an attempt's pod is no more.

    A local pod is gone where this user's local cloud has seen its end: another machine, or user, may bear the name of this one's.
    """
    pod = record.pod.pod_id
    if not pod or not record.cloud:
        return False
    with contextlib.suppress(CloudError, UserError):
        cloud = open_cloud(record.cloud, context.env, context.places)
        if cloud.get(pod) is None and all(one.id != pod for one in cloud.list()):
            return not isinstance(cloud, LocalCloud) or cloud.ended(pod) is not None
    return False
