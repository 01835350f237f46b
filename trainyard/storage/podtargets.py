"""What shall lie on a pod, and where its bytes are in a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ManifestEntry

EXTENT = 32 << 20
"""Bytes that are asked for at a time."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the bucket; ``etag`` and ``version`` bind what is read to what was seen. An https:// ``key`` is read where it is."""

    key: str
    etag: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file: where they lie in which object, and their CRC32 where it is known."""

    source: StoredObject
    offset: int
    length: int
    crc32: str = ""


@dataclass(frozen=True, slots=True)
class PodTarget:
    """A file that shall lie on the pod: its path below the folder, its extents in order; no sha256 means that nobody has read it yet."""

    path: str
    size: int
    sha256: str | None
    extents: tuple[Extent, ...]
    executable: bool = False


def target_of(entry: ManifestEntry, key: str, path: str) -> PodTarget:
    """Return a file that a manifest names, and that is one object."""
    source, numbers = StoredObject(key), range(1, len(entry.parts) + 1) if entry.size else range(0)
    return PodTarget(path, entry.size, entry.sha256, tuple(Extent(source, *entry.part(n), entry.parts[n - 1]) for n in numbers))


def target_of_object(source: StoredObject, path: str, size: int, sha256: str | None = None) -> PodTarget:
    """Return a file that is one object of which only the size is known, and perhaps the sha256."""
    starts = range(0, size, EXTENT)
    return PodTarget(path, size, sha256, tuple(Extent(source, start, min(EXTENT, size - start)) for start in starts))


def bound_to(settings: StoreSettings, source: StoredObject) -> dict[str, Any]:
    """Return the arguments that read an object, and no other one under its key."""
    bound: dict[str, Any] = {"Bucket": settings.bucket, "Key": source.key}
    if source.version:
        bound["VersionId"] = source.version
    if source.etag:
        bound["IfMatch"] = source.etag
    return bound


def place_of(settings: StoreSettings | None, target: PodTarget) -> str:
    """Return in words where a file's bytes are; without settings on the web."""
    keys = list(dict.fromkeys(extent.source.key for extent in target.extents)) or [""]
    first = f"{settings.url}/{keys[0]}" if settings else keys[0]
    return first if len(keys) == 1 else f"{first} and {len(keys) - 1} more"
