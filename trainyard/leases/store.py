"""The bucket as resources name it: ``store`` (kind) and ``bucket`` (name). Loads the S3 client only when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainyard.leases.world import OperationWorld
from trainyard.settings.table import NO_BUCKET

if TYPE_CHECKING:
    from trainyard.storage.client import StoreSettings


def settings_of(world: OperationWorld, store: str | None, bucket: str | None) -> StoreSettings | None:
    """Return how to reach the bucket with the credentials at hand, None without a bucket or without credentials."""
    if not bucket or bucket == NO_BUCKET:
        return None
    from trainyard.storage.stores import store_settings  # it costs a twentieth of a second and most operations need none

    return store_settings(world.env, store, bucket, world.places)
