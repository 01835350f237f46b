"""Hold a result in the bucket against its manifest: by what HEAD tells of each object, or by all of its bytes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from trainyard.errors import StoreError
from trainyard.storage import bucket
from trainyard.storage.absent import absence
from trainyard.storage.client import THREADS, StoreSettings, s3
from trainyard.storage.deliver import OnProgress, Progress, silent
from trainyard.storage.ending import Ending
from trainyard.storage.manifest import KEPT, MANIFEST, POD_COMMITTED, SUCCESS, Manifest, ManifestEntry, ResultKey, decode, sha256
from trainyard.storage.markers import stranger, whose_else
from trainyard.storage.objects import sha256_text
from trainyard.storage.reader import head_at_once
from trainyard.storage.seal import are_paired, ending_in, read_each

_OWN = frozenset({MANIFEST, SUCCESS, KEPT, POD_COMMITTED, "_pod.tar"})
_BLOCK = 1 << 20
_READERS = 4
FileState = Literal["right", "unproved", "changed", "missing"]
"""unproved: its size is right, and the store tells no checksum of it."""


@dataclass(frozen=True, slots=True)
class SealState:
    """Marker and manifest of an attempt; ``problem`` is empty when they belong together."""

    manifest: Manifest | None
    manifest_sha256: str | None
    marker: str | None
    ending: Ending | None
    problem: str


@dataclass(frozen=True, slots=True)
class ResultCheck:
    """What of a result is as its manifest says. Paths are those of the result."""

    seal: SealState
    files: Mapping[str, FileState]
    extra: tuple[str, ...]
    deep: bool

    @property
    def whole(self) -> bool:
        """Tell whether it counts and every file is there, unchanged; more files than the manifest's change nothing of it."""
        return not self.seal.problem and not self.those("missing") and not self.those("changed")

    def those(self, state: FileState) -> list[str]:
        """Return the paths that are in a state."""
        return sorted(path for path, one in self.files.items() if one == state)


def seal_state(settings: StoreSettings, key: ResultKey) -> SealState:
    """Return what marker and manifest of an attempt say, and what is wrong with them; raises StoreError when the store gives none."""
    success, kept, body = read_each(settings, (key.success, key.kept, key.manifest))
    marker, text = (SUCCESS, success) if success is not None else (KEPT, kept)
    ending = ending_in(text) if text is not None and marker == KEPT else None
    manifest, digest, damage = None, sha256(body) if body is not None else None, ""
    if body is not None:
        try:
            manifest = decode(body, f"{settings.url}/{key.manifest}")
        except StoreError as error:
            damage = error.message
    if text is None:
        return SealState(manifest, digest, None, None, damage or f"it was never committed: neither {SUCCESS} nor {KEPT} is there")
    paired = body is not None and are_paired(text, body)
    if not paired and (problem := stranger(settings, key, text)):
        return SealState(manifest, digest, marker, ending, f"{marker}: {problem}")
    if body is None:
        return SealState(None, None, marker, ending, f"{marker} is there, its {MANIFEST} is missing")
    wrong = "" if paired else f"{marker} names another {MANIFEST} than the one that is there"
    if manifest is not None and not wrong and (whose := whose_else(settings, key, manifest)):
        wrong = f"it is {whose}"
    return SealState(manifest, digest, marker, ending, damage or wrong)


def verify(settings: StoreSettings, key: ResultKey, *, deep: bool = False, on_progress: OnProgress = silent) -> ResultCheck:
    """Hold every object against the manifest; with ``deep`` each of its bytes is read, else the store's own checksums count."""
    seal = seal_state(settings, key)
    listed = {item.key[len(key.prefix) :] for item in bucket.listing(settings, key.prefix)} - _OWN
    entries = seal.manifest.files if seal.manifest else ()
    done, total, lock = 0, sum(entry.size for entry in entries), threading.Lock()

    def one(entry: ManifestEntry) -> FileState:
        nonlocal done
        state = _read_whole(settings, key, entry) if deep else _ask(settings, key, entry)
        with lock:
            done += entry.size
            on_progress(Progress("verify", done, total))
        return state

    with ThreadPoolExecutor(_READERS if deep else THREADS) as pool:
        states = dict(zip((entry.path for entry in entries), pool.map(one, entries), strict=True))
    return ResultCheck(seal, states, tuple(sorted(listed - states.keys())), deep)


def _ask(settings: StoreSettings, key: ResultKey, entry: ManifestEntry) -> FileState:
    name = key.prefix + entry.path
    settled, head = head_at_once(settings, name)
    if not settled:
        with absence(settings, f"look at {settings.url}/{name}"):
            head = s3(settings).head_object(Bucket=settings.bucket, Key=name, ChecksumMode="ENABLED")
    if head is None:
        return "missing"
    if head.get("ContentLength") != entry.size:
        return "changed"
    # A single PUT is kept under its SHA-256, a file of several parts under its CRC32.
    said = {head.get("ChecksumCRC32"), head.get("ChecksumSHA256")} - {None}
    right = {entry.crc32, entry.composite, sha256_text(entry)}
    return "right" if said & right else "changed" if said else "unproved"


def _read_whole(settings: StoreSettings, key: ResultKey, entry: ManifestEntry) -> FileState:
    name, digest, size = key.prefix + entry.path, hashlib.sha256(), 0
    with (
        absence(settings, f"read {settings.url}/{name}") as refusal,
        s3(settings).get_object(Bucket=settings.bucket, Key=name)["Body"] as body,
    ):
        while block := body.read(_BLOCK):
            digest.update(block)
            size += len(block)
    if refusal:
        return "missing"
    return "right" if size == entry.size and digest.hexdigest() == entry.sha256 else "changed"
