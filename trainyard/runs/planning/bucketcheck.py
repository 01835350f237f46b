"""The bucket is tried before anything is rented, and what it cannot do is said."""

from __future__ import annotations

import time

from trainyard.clock import format_time
from trainyard.errors import StoreError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunBucket

SOON = 900.0
"""Seconds: keys that end before are not worth renting for."""


def require_bucket(context: CommandContext, stack: str, bucket: RunBucket | None, hours: float) -> None:
    """Raise StoreError when the bucket of results could not take one now; a good answer of the last hour counts.

    ``hours``: how long the pod may live. Keys that end before it does are told, those that end now are refused.
    """
    if bucket is None:
        return
    from trainyard.runs.records.stores import store_of
    from trainyard.storage import canary

    settings = store_of(context, bucket)
    if settings is None:
        raise StoreError(f"no credentials of the store of bucket '{bucket.bucket}' are set; nothing was rented")
    began = time.time()
    _refuse_ending_keys(context, settings.keys_end, began, hours)
    report = canary.require(settings, stack=stack)
    if report.at < began:
        return  # what it lacks was said within the hour
    context.ui.say(f"bucket     {settings.url} takes, proves and gives back what it gets ({report.seconds:.1f} s)")
    if report.removed:
        context.ui.say(f"           {report.removed} objects of a canary that was cut off were removed")
    for check in report.degraded:
        context.ui.warn(f"bucket {settings.bucket}: {check.name} does not work: {canary.loss(check)}")


def _refuse_ending_keys(context: CommandContext, end: float | None, now: float, hours: float) -> None:
    if end is None or end > now + hours * 3600:
        return
    hint = "Get new ones before, into the same variables; a profile of AWS_PROFILE renews its own."
    if end < now + SOON:
        raise StoreError(f"the store's session keys end at {format_time(end)}; nothing was rented", hint=hint, code="ExpiredToken")
    context.ui.warn(
        f"the store's session keys end at {format_time(end)}, before the lease does: a result that is finished after that waits on its pod "
        f"until `invoke attach` has new keys. {hint}"
    )
