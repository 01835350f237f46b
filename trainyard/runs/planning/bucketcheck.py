"""The bucket is tried before anything is rented, and what it cannot do is said."""

from __future__ import annotations

import time

from trainyard.errors import StoreError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunBucket


def require_bucket(context: CommandContext, bucket: RunBucket | None) -> None:
    """Raise StoreError when the bucket of results could not take one now; a good answer of the last hour counts."""
    if bucket is None:
        return
    from trainyard.runs.records.stores import store_of
    from trainyard.storage import canary

    settings = store_of(context, bucket)
    if settings is None:
        raise StoreError(f"no credentials of the store of bucket '{bucket.bucket}' are set; nothing was rented")
    began = time.time()
    report = canary.require(settings)
    if report.at < began:
        return  # what it lacks was said within the hour
    context.ui.say(f"bucket     {settings.url} takes, proves and gives back what it gets ({report.seconds:.1f} s)")
    for check in report.degraded:
        context.ui.warn(f"bucket {settings.bucket}: {check.name} does not work: {canary.loss(check)}")
