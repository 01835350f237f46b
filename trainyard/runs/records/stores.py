"""The store that holds a run's result, as the record names it."""

from __future__ import annotations

from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunBucket
from trainyard.storage.client import StoreSettings
from trainyard.storage.stores import store_settings


def store_of(context: CommandContext, bucket: RunBucket | None) -> StoreSettings | None:
    """Return the settings of the store that holds a run's result, None without a bucket."""
    if not bucket:
        return None
    return store_settings(context.env, bucket.store, bucket.bucket, context.places)
