"""The bucket itself: adopt or create it, prove that it works, say how big it is.

Knows nothing of runs and results. An existing bucket is adopted as it is; nothing here empties one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from trainyard.errors import StoreError, UserError
from trainyard.storage import canary
from trainyard.storage.answers import BAD_KEYS, DENIED, StoreRefusal, hint_for, store_errors
from trainyard.storage.client import StoreSettings, s3


@dataclass(frozen=True, slots=True)
class Size:
    """How much lies below a prefix."""

    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Item:
    """One object of a listing."""

    key: str
    size: int
    modified: float
    etag: str = ""


def adopt_or_create(settings: StoreSettings) -> bool:
    """Make sure that the bucket exists; True when it was there already.

    Raises StoreError when it is there but refuses us; nothing is changed then.
    """
    _need_bucket(settings)
    client = s3(settings)
    with store_errors(f"bucket '{settings.bucket}'", 301, 307, 400, 403, 404) as refusal:
        client.head_bucket(Bucket=settings.bucket)
    if not refusal:
        return True
    refusal = _why(settings)
    if not refusal:
        return True
    if refusal.status == 403:
        # A key with rights on objects alone may not look at the bucket: what it can do there is tried.
        report = canary.check(settings)
        if report.failures:
            raise canary.refusal_of(settings, report)
        return True
    if refusal.status != 404:
        raise StoreError(f"bucket '{settings.bucket}' is not in region {settings.region} ({refusal.status}); nothing was changed")
    if settings.kind == "runpod":
        raise StoreError(
            f"RunPod has no bucket '{settings.bucket}' in {settings.region}",
            hint="A RunPod bucket is a network volume: create the volume in that data centre and name its id.",
        )
    return _create(settings, client)


def exists(settings: StoreSettings) -> bool:
    """Tell whether the bucket is there (also when it is somebody else's); False only on the store's positive word."""
    _need_bucket(settings)
    with store_errors(f"bucket '{settings.bucket}'", 403, 404) as refusal:
        s3(settings).head_bucket(Bucket=settings.bucket)
    return not refusal or _why(settings).status != 404


def _why(settings: StoreSettings) -> StoreRefusal:
    """Return why HEAD of the bucket was refused, in the store's words: HEAD has no body.

    A wrong secret, a wrong clock and somebody else's bucket look alike there (to some stores an unknown key is a 404, too).
    Raises StoreError when the store does not believe that the request is ours.
    """
    with store_errors(f"bucket '{settings.bucket}'", 301, 307, 400, 403, 404) as refusal:
        s3(settings).list_objects_v2(Bucket=settings.bucket, MaxKeys=1)
    if refusal.code in BAD_KEYS:
        sentence = f"bucket '{settings.bucket}': the store does not accept this key ({refusal.code}); nothing was changed"
        raise StoreError(sentence, hint=hint_for(refusal.code), code=refusal.code)
    return refusal


def listing(settings: StoreSettings, prefix: str = "") -> Iterator[Item]:
    """List all objects below a prefix."""
    client, token = s3(settings), None
    while True:
        more: dict[str, Any] = {"ContinuationToken": token} if token else {}
        with store_errors(f"list {settings.url}/{prefix}"):
            page = client.list_objects_v2(Bucket=settings.bucket, Prefix=prefix, **more)
        for entry in page.get("Contents", []):
            yield Item(entry["Key"], int(entry["Size"]), entry["LastModified"].timestamp(), str(entry.get("ETag", "")))
        following = page.get("NextContinuationToken")
        if not page.get("IsTruncated") or not following:
            return
        if following == token:
            # RunPod does this on big volumes; going on would list the same page for ever.
            raise StoreError(f"list {settings.url}/{prefix}: the store repeats itself (the same continuation token twice)")
        token = following


def keys_below(settings: StoreSettings, prefixes: Iterable[str]) -> set[str] | None:
    """Return all keys below some prefixes, None where this key may not list."""
    try:
        return {item.key for prefix in prefixes for item in listing(settings, prefix)}
    except StoreError as error:
        if error.code not in DENIED:
            raise
        return None


def folders(settings: StoreSettings, prefix: str) -> list[str]:
    """List the names directly below a prefix that ends with '/'."""
    client, token, names = s3(settings), None, []
    while True:
        more: dict[str, Any] = {"ContinuationToken": token} if token else {}
        with store_errors(f"list {settings.url}/{prefix}"):
            page = client.list_objects_v2(Bucket=settings.bucket, Prefix=prefix, Delimiter="/", **more)
        names += [entry["Prefix"][len(prefix) :].rstrip("/") for entry in page.get("CommonPrefixes", [])]
        token = page.get("NextContinuationToken")
        if not page.get("IsTruncated") or not token:
            return sorted(names)


def size(settings: StoreSettings, prefix: str = "") -> Size:
    """Return number and bytes of the objects below a prefix."""
    objects = total = 0
    for item in listing(settings, prefix):
        objects += 1
        total += item.size
    return Size(objects, total)


def store_time(settings: StoreSettings) -> float:
    """Return the store's time (epoch seconds), this machine's where it tells none."""
    with store_errors(f"bucket '{settings.bucket}'"):
        answer = s3(settings).list_objects_v2(Bucket=settings.bucket, MaxKeys=1)
    said = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(said).timestamp()
    except (TypeError, ValueError):
        return time.time()


def forget(settings: StoreSettings, key: str, version: str | None = None) -> None:
    """Delete one object for good (its version too, where the bucket keeps versions)."""
    more = {"VersionId": version} if version and version != "null" else {}
    with store_errors(f"delete {settings.url}/{key}"):
        s3(settings).delete_object(Bucket=settings.bucket, Key=key, **more)


def _need_bucket(settings: StoreSettings) -> None:
    if not settings.bucket:
        raise UserError("no bucket is named", hint="Set `trainyard:bucket: NAME` in the stack's settings.")


def _create(settings: StoreSettings, client: Any) -> bool:
    options: dict[str, Any] = {}
    if settings.kind == "aws" and settings.region != "us-east-1":
        options["CreateBucketConfiguration"] = {"LocationConstraint": settings.region}
    with store_errors(f"create bucket '{settings.bucket}'", "BucketAlreadyOwnedByYou", "BucketAlreadyExists") as refusal:
        client.create_bucket(Bucket=settings.bucket, **options)
    if refusal.code == "BucketAlreadyOwnedByYou":
        return True  # another process of ours was faster
    if refusal:
        raise StoreError(f"bucket name '{settings.bucket}' is taken by somebody else; nothing was changed")
    if settings.kind == "local":
        with store_errors(f"versioning of '{settings.bucket}'"):
            client.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    return False
