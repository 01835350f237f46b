"""What a run will keep in its bucket, and what that costs there: told beside the estimate, before anything is rented."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from trainyard.clouds.protocol import Cloud, CostItem
from trainyard.errors import CloudError, EngineError, StoreError, UserError
from trainyard.recipes.code import Code
from trainyard.recipes.data import Data
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import route
from trainyard.runs.planning.estimate import HOURS_A_MONTH
from trainyard.runs.planning.history import ResultSize
from trainyard.runs.records.environment import bucket_in
from trainyard.runs.records.parts import RunBucket
from trainyard.runs.records.storagecost import StorageCost, storage_cost
from trainyard.settings.table import StackSettings
from trainyard.stacks import facade


def storage_of(
    context: CommandContext, stack: str, settings: StackSettings, cloud: Cloud, data: Data, code: Code | None, expected: ResultSize | None
) -> StorageCost | None:
    """Return what the result, data and code of a run cost in its bucket; None where it has none, or nobody tells which."""
    bucket = bucket_of(context, stack, settings)
    if bucket is None:
        return None
    size, runs = (expected.bytes, expected.runs) if expected else (None, 0)
    kept = _kept(bucket, settings, cloud, data, code)
    volume = _volume(cloud.costs, bucket) if bucket.store == "runpod" and cloud.name == "runpod" else (None, None)
    return storage_cost(bucket, size, like_runs=runs, data_bytes=kept, volume=volume)


def bucket_of(context: CommandContext, stack: str, settings: StackSettings) -> RunBucket | None:
    """Return the bucket that an environment has, or that its first `up` will make, without asking any store."""
    if not settings.has_bucket:
        return None
    with contextlib.suppress(EngineError, UserError, StoreError):
        if known := bucket_in(facade.plain_outputs(context.stack(stack))):
            return known
        if settings.store == "local":
            return RunBucket("", "local")
        from trainyard.storage.stores import store_settings  # S3's libraries, for an environment that was never up

        store = store_settings(context.env, settings.store, settings.bucket, context.places)
        return RunBucket(store.bucket, store.kind, store.endpoint) if store else None
    return None


def _kept(bucket: RunBucket, settings: StackSettings, cloud: Cloud, data: Data, code: Code | None) -> int:
    """Return how many bytes of a person's files go through the bucket, as datastore.store_for() decides it, and stay there."""
    if bucket.store == "runpod" and settings.volume != bucket.bucket:
        return 0
    if (cloud.name == "local" or cloud.simulated) and bucket.store != "local":
        return 0
    of_data = data.bytes if data.stored is not None or route.big_data(data) else 0
    return of_data + (code.size if code is not None and route.big_code(code) else 0)


def _volume(costs: Callable[[], Sequence[CostItem]], bucket: RunBucket) -> tuple[float | None, float | None]:
    """Return GB and dollars a month of the network volume that a bucket is, as far as its cloud tells them."""
    with contextlib.suppress(CloudError):
        for item in costs():
            if item.kind == "volume" and item.id == bucket.bucket:
                return item.size_gb, None if item.per_hour is None else item.per_hour * HOURS_A_MONTH
    return None, None
