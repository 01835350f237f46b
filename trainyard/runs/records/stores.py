"""The store that holds a run's result, as the record names it."""

from __future__ import annotations

from dataclasses import replace

from trainyard.clock import parse_time
from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunBucket
from trainyard.storage.client import StoreSettings
from trainyard.storage.stores import store_settings


def store_of(context: CommandContext, bucket: RunBucket | None, end: str | None = None) -> StoreSettings | None:
    """Return the settings of the store that holds a run's result, None without a bucket.

    ``end``: when the lease of its pod is over; URLs that are signed for the pod end with it. Raises UserError where the
    local store that is asked is not the run's.
    """
    if not bucket:
        return None
    settings = store_settings(context.env, bucket.store, bucket.bucket, context.places)
    if settings and settings.kind == "local" and (elsewhere := another_store(bucket, settings)):
        # Its address is chosen once and for good: what lies there is not the run's.
        raise UserError(f"bucket {bucket.bucket} lies in another local store than the one that was asked", hint=elsewhere)
    until = parse_time(end)
    return replace(settings, urls_until=until.timestamp()) if settings and until else settings


def another_store(bucket: RunBucket | None, store: StoreSettings | None) -> str:
    """Return what to tell of a run whose record names another store than the one that was opened for it; '' for the same one."""
    if bucket is None or store is None or not bucket.endpoint or bucket.endpoint.rstrip("/") == (store.endpoint or "").rstrip("/"):
        return ""
    moved = "Each TRAINYARD_LOCAL_ROOT has its own: set the one with which it was made."
    cause = moved if store.kind == "local" else "Set its address and keys again, where the run's lie there."
    return f"What was made with it names the store at {bucket.endpoint}; asked was the one at {store.endpoint or 'Amazon'}.\n{cause}"
