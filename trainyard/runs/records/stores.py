"""The store that holds a run's result, as the record names it."""

from __future__ import annotations

from dataclasses import replace

from trainyard.clock import parse_time
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunBucket
from trainyard.storage.client import StoreSettings
from trainyard.storage.stores import store_settings


def store_of(context: CommandContext, bucket: RunBucket | None, end: str | None = None) -> StoreSettings | None:
    """Return the settings of the store that holds a run's result, None without a bucket.

    ``end``: when the lease of its pod is over; URLs that are signed for the pod end with it.
    """
    if not bucket:
        return None
    settings = store_settings(context.env, bucket.store, bucket.bucket, context.places)
    until = parse_time(end)
    return replace(settings, urls_until=until.timestamp()) if settings and until else settings
