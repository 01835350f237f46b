"""Commit one checkpoint while its training runs, and remove older ones.

checkpoints/<user>/<run>/<attempt>/<name>/...  its files, then _manifest.json, then _CHECKPOINT, without which nothing counts

Who reads them is checkpoints.py.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.errors import StoreError
from trainyard.pod.files import literal
from trainyard.remote.protocol import Transport
from trainyard.storage import podside
from trainyard.storage.bucket import listing
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import CHECKPOINT, MANIFEST, Manifest, ResultKey, entry_of, sha256
from trainyard.storage.objects import UploadTarget, drop_below
from trainyard.storage.seal import flush, put_proven
from trainyard.storage.versions import keeps_versions, remove, versions


@dataclass(frozen=True, slots=True)
class OneCheckpoint:
    """A checkpoint of an attempt: its path in the output folder, and its name in the bucket."""

    where: ResultKey
    token: str
    path: str
    name: str

    @property
    def prefix(self) -> str:
        """The folder of its objects, with its '/'."""
        return f"{self.where.checkpoints}{self.name}/"


def name_of(path: str, pattern: str) -> str:
    """Return the name of a checkpoint: its path without the folder that a recipe's pattern begins with, as one word."""
    fixed = pattern.strip("/").split("/")[:-1]
    names = path.split("/")
    while fixed and names[1:] and fixed[0] == names[0]:
        fixed, names = fixed[1:], names[1:]
    return "--".join(names)


def scan(transport: Transport, place: str, *, md5: bool, part_size: int, nice: int) -> Mapping[str, Any] | None:
    """Hash all files of a checkpoint, a folder or a single file; None when it is gone, is being written or cannot all be read."""
    parent, name = posixpath.split(place)
    kind = podside.kind_of(transport, place)
    if kind == "nothing":
        return None
    root, outputs = (place, ["**"]) if kind == "folder" else (parent, [literal(name)])
    seen = podside.scan(podside.FinishedPod(transport, root), outputs, [], {}, md5=md5, part_size=part_size, nice=nice)
    lost = any(entry["wanted"] for entry in seen["left_out"])
    return None if seen["changed"] or seen["unreadable"] or lost or not seen["files"] else {**seen, "single": kind == "file"}


def targets(one: OneCheckpoint, seen: Mapping[str, Any]) -> list[UploadTarget]:
    """Return the files of a checkpoint with their keys."""
    return [UploadTarget(entry_of(e), e["source"], one.prefix + e["path"], tuple(e.get("md5", ()))) for e in seen["files"]]


def seal(settings: StoreSettings, one: OneCheckpoint, seen: Mapping[str, Any]) -> int:
    """Write manifest and marker of a checkpoint whose files are proven to be there; returns its bytes."""
    # A single file has no path below the checkpoint: it is named as it lies in the output.
    files = tuple(entry_of(entry, one.path if seen["single"] else None) for entry in seen["files"])
    manifest = Manifest(one.where, files, (), one.token)
    body = manifest.encode()
    put_proven(settings, one.prefix + MANIFEST, body)
    flush(settings)
    marker = {"sha256": sha256(body), "token": one.token, "name": one.name, "path": one.path, "bytes": manifest.size}
    put_proven(settings, one.prefix + CHECKPOINT, (json.dumps(marker, sort_keys=True) + "\n").encode())
    flush(settings)
    return manifest.size


def prune(settings: StoreSettings, one: OneCheckpoint, keep: int) -> None:
    """Remove the checkpoints of an attempt but the newest ``keep``, and what never became one; their markers go first."""
    base = one.where.checkpoints
    sealed: dict[str, float] = {}
    names: set[str] = set()
    for item in listing(settings, base):
        name, _, rest = item.key[len(base) :].partition("/")
        names.add(name)
        if rest == CHECKPOINT:
            sealed[name] = item.modified
    sealed[one.name] = max([*sealed.values(), 0.0]) + 1  # the store's clock counts seconds: this one is the newest
    drop_below(settings, base)  # what a controller that was killed has left
    newest = sorted(sealed, key=lambda name: sealed[name], reverse=True)[:keep]
    for name in sorted(names.difference(newest)):
        _remove(settings, f"{base}{name}/")


def drop(settings: StoreSettings, one: OneCheckpoint) -> None:
    """Remove what has arrived of a checkpoint that was not completed."""
    drop_below(settings, one.prefix)
    _remove(settings, one.prefix)


def _remove(settings: StoreSettings, prefix: str) -> None:
    kept = keeps_versions(settings)
    objects = sorted(versions(settings, prefix, versioned=kept), key=lambda one: one.key != prefix + CHECKPOINT)
    marker = [one for one in objects if one.key == prefix + CHECKPOINT]
    for some in (marker, objects[len(marker) :]):
        if problems := remove(settings, some):
            raise StoreError(next(iter(problems.values())))
