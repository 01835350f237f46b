"""What canaries have left that were cut off: known by their names, removed by `invoke gc` and by the next canary."""

from __future__ import annotations

from collections.abc import Iterable

from trainyard.storage import objects
from trainyard.storage.bucket import listing
from trainyard.storage.client import StoreSettings
from trainyard.storage.objects import OpenUpload, open_uploads
from trainyard.storage.trial import CANARY
from trainyard.storage.versions import Version, keeps_versions, remove, versions

OLD = 2 * 3600.0
"""Seconds after which no canary can be at work any more."""


def of_canaries(those: Iterable[Version], uploads: Iterable[OpenUpload], now: float) -> tuple[tuple[Version, ...], tuple[OpenUpload, ...]]:
    """Return those objects and uploads that a canary has left which was cut off."""
    old = now - OLD
    return (
        tuple(one for one in those if one.key.startswith(CANARY) and one.modified < old),
        tuple(one for one in uploads if one.key.startswith(CANARY) and 0 < one.begun < old),
    )


def clear(settings: StoreSettings, now: float) -> int:
    """Remove what canaries have left that were cut off, and return how many objects and uploads that were."""
    there = (Version(item.key, item.size, item.modified) for item in listing(settings, CANARY))
    those, uploads = of_canaries(there, open_uploads(settings, CANARY), now)
    for upload in uploads:
        objects.drop(settings, upload.key, upload.upload_id)
    if those and (versioned := keeps_versions(settings)):
        those, _ = of_canaries(versions(settings, CANARY, versioned=versioned), (), now)
    return len(uploads) + len(those) - len(remove(settings, those))
