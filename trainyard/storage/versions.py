"""Objects with their versions, and their end for good. Where a bucket keeps none, each object is its only version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from trainyard.errors import StoreError
from trainyard.storage.answers import DENIED, store_errors
from trainyard.storage.bucket import listing
from trainyard.storage.client import THREADS, StoreSettings, s3

_NO_VERSIONS = (400, 404, 405, 501)
"""How stores say that they know no versions."""
_LONG_NAME = 222
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or a delete marker. ``id`` is None where the bucket keeps none; ``modified`` is epoch seconds."""

    key: str
    size: int
    modified: float
    id: str | None = None
    latest: bool = True
    marker: bool = False


def keeps_versions(settings: StoreSettings) -> bool | None:
    """Tell whether the bucket keeps what is overwritten or deleted; None where this key may not ask."""
    with store_errors(f"versioning of {settings.url}", 403, *_NO_VERSIONS) as refusal:
        answer = s3(settings).get_bucket_versioning(Bucket=settings.bucket)
    if refusal.status == 403:
        return None
    return not refusal and answer.get("Status") in ("Enabled", "Suspended")


def versions(settings: StoreSettings, prefix: str = "", *, versioned: bool | None) -> Iterator[Version]:
    """List all versions below a prefix, of one key the newest first; without ``versioned`` the objects as they are."""
    if not versioned:
        yield from (Version(item.key, item.size, item.modified) for item in listing(settings, prefix))
        return
    more: dict[str, Any] = {}
    while True:
        with store_errors(f"list versions of {settings.url}/{prefix}"):
            page = s3(settings).list_object_versions(Bucket=settings.bucket, Prefix=prefix, **more)
        both = [(one, False) for one in page.get("Versions", [])] + [(one, True) for one in page.get("DeleteMarkers", [])]
        ordered = sorted(both, key=lambda each: (str(each[0]["Key"]), not each[0]["IsLatest"], -each[0]["LastModified"].timestamp()))
        for one, marker in ordered:
            moment = one["LastModified"].timestamp()
            yield Version(one["Key"], int(one.get("Size", 0)), moment, one["VersionId"], bool(one["IsLatest"]), marker)
        following = {"KeyMarker": page.get("NextKeyMarker"), "VersionIdMarker": page.get("NextVersionIdMarker")}
        if not page.get("IsTruncated") or not following["KeyMarker"]:
            return
        following = {name: value for name, value in following.items() if value}
        if following == more:
            raise StoreError(f"list versions of {settings.url}/{prefix}: the store repeats itself (the same marker twice)")
        more = following


def remove(settings: StoreSettings, those: Iterable[Version]) -> dict[str, str]:
    """Delete versions for good, and return why some are still there, by key; what is gone already is fine.

    Of one key the latest goes last: no older one may show again, not even when this process is killed.
    """
    by_key = [list(group) for _, group in groupby(sorted(those, key=lambda one: (one.key, one.latest, one.modified)), lambda one: one.key)]
    with ThreadPoolExecutor(THREADS) as pool:
        problems = pool.map(lambda group: _remove_key(settings, group), by_key)
    return {group[0].key: why for group, why in zip(by_key, problems, strict=True) if why}


def _remove_key(settings: StoreSettings, group: Sequence[Version]) -> str:
    for one in group:
        more = {} if one.id is None else {"VersionId": one.id}
        try:
            with store_errors(f"delete {settings.url}/{one.key}", 404):
                s3(settings).delete_object(Bucket=settings.bucket, Key=one.key, **more)
        except StoreError as error:
            return error.message
    return ""


def make_way(settings: StoreSettings, key: str) -> None:
    """Take away what VersityGW cannot write over: it takes an object with so long a name for a folder (409, ExistingObjectIsDirectory).

    Of a store of our own every version goes, since there a marker of deletion is in the way, too; no other loses a version.
    """
    if len(key.rpartition("/")[2].encode()) <= _LONG_NAME:
        return
    if settings.kind == "local":
        remove(settings, [one for one in versions(settings, key, versioned=keeps_versions(settings)) if one.key == key])
    else:
        with store_errors(f"replace {settings.url}/{key}", *DENIED):
            s3(settings).delete_object(Bucket=settings.bucket, Key=key)
