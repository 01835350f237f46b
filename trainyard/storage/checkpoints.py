"""The checkpoints of a run, newest first: those written while it trained, and those kept at the end of an attempt.

checkpoints/<user>/<run>/<attempt>/<name>/...   one complete checkpoint, its _manifest.json and _CHECKPOINT
models/<user>/<run>/<attempt>/...               a result under ``_KEPT`` that names its checkpoints

One counts when its marker names the sha256 of its manifest and every file of that is in the store, or at home. Reads
only; what writes them is another's work.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.config import attempt_number
from trainyard.errors import StoreError
from trainyard.files import sha256_of
from trainyard.jsontext import parse_json
from trainyard.pod.files import name_problem
from trainyard.storage import bucket
from trainyard.storage.client import THREADS, StoreSettings
from trainyard.storage.manifest import CHECKPOINT, CHECKPOINTS, KEPT, MANIFEST, MODELS, Manifest, ManifestEntry, ResultKey, decode, sha256
from trainyard.storage.objects import UploadTarget, proof
from trainyard.storage.podfetch import DEFINITE
from trainyard.storage.seal import ending_in, read, read_each, read_result

FOLDER = "checkpoints"
"""Of the output: where a training keeps its checkpoints, and where one is put back."""


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """Where a checkpoint lies: the folder of its objects ('' for one at home), or of its files here."""

    key: ResultKey
    path: str
    """Its place in the output folder, like ``checkpoints/checkpoint-10``: a folder, or one file."""
    prefix: str = ""
    home: Path | None = None

    @property
    def id(self) -> str:
        """What tells it from any other one."""
        kept = self.home is not None or self.prefix == self.key.prefix
        return f"{self.home or self.prefix}:{self.path}" if kept else self.prefix

    @property
    def name(self) -> str:
        """How the training calls it."""
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.name} of attempt {self.key.attempt}"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a checkpoint: its key in the bucket (or file here), its path below the output folder, what it must be."""

    source: str
    path: str
    entry: ManifestEntry


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is whole, by its manifest."""

    place: CheckpointPlace
    manifest_sha256: str
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.entry.size for file in self.files)


def places(settings: StoreSettings, user: str, run: str) -> list[CheckpointPlace]:
    """Return where checkpoints of a run's attempts lie in a bucket, the newest attempt's newest first. Proves nothing."""
    seen: list[tuple[int, bool, float, list[int], CheckpointPlace]] = []
    base = f"{CHECKPOINTS}{user}/{run}/"
    for item in bucket.listing(settings, base):
        number, _, rest = item.key[len(base) :].partition("/")
        name, _, last = rest.partition("/")
        if last == CHECKPOINT and attempt_number(number):
            key = ResultKey(user, run, int(number))
            # A store's clock counts seconds: within one the greater number is the later one.
            numbers = [int(digits) for digits in re.findall("[0-9]+", name)]
            seen.append((key.attempt, False, item.modified, numbers, CheckpointPlace(key, f"{FOLDER}/{name}", f"{base}{number}/{name}/")))
    base = f"{MODELS}{user}/{run}/"
    for item in bucket.listing(settings, base):
        number, _, rest = item.key[len(base) :].partition("/")
        if rest == KEPT and attempt_number(number):
            key = ResultKey(user, run, int(number))
            kept = ending_in(read(settings, key.kept) or b"").checkpoints
            # What was kept is of the attempt's end, whatever the store's clock says of one saved in the same second.
            seen += [(key.attempt, True, item.modified, [-rank], CheckpointPlace(key, path, key.prefix)) for rank, path in enumerate(kept)]
    return [place for *_, place in sorted(seen, key=lambda one: one[:4], reverse=True)]


def places_at_home(home: Path, key: ResultKey) -> list[CheckpointPlace]:
    """Return the checkpoints of a result under ``_KEPT`` that came home over SSH."""
    with contextlib.suppress(OSError):
        return [CheckpointPlace(key, path, home=home) for path in ending_in((home / KEPT).read_bytes()).checkpoints]
    return []


def load(place: CheckpointPlace, settings: StoreSettings | None, token: str | None = None) -> Checkpoint:
    """Return a checkpoint, proven: marker and manifest agree, and every file is there as the manifest says.

    ``token``, where it is known, is that of its attempt. Raises StoreError naming what cannot be proven.
    """
    place, manifest, digest = _manifest(place, settings)
    if token and manifest.token != token:
        raise StoreError(f"{place}: it is of another run (its token is '{manifest.token[:8]}')")
    files = tuple(_files(place, manifest))
    if not files:
        raise StoreError(f"{place}: its manifest names no file of it")
    with ThreadPoolExecutor(THREADS) as pool:
        states = pool.map(lambda file: _is_there(file, settings, place), files)
        missing = next((file.path for file, there in zip(files, states, strict=True) if not there), None)
    if missing:
        raise StoreError(f"{place}: {missing} is missing, or other than its manifest says")
    return Checkpoint(place, digest, files)


def content_of(checkpoint: Checkpoint, path: str, settings: StoreSettings | None) -> bytes | None:
    """Return a file of a checkpoint by its path in it, None where it has none of those bytes."""
    file = next((file for file in checkpoint.files if file.path == f"{checkpoint.place.path}/{path}"), None)
    if file is None:
        return None
    if checkpoint.place.home is None:
        assert settings is not None
        body = read(settings, file.source) or b""
    else:
        body = Path(file.source).read_bytes()
    return body if sha256(body) == file.entry.sha256 else None


def is_its_fault(error: StoreError) -> bool:
    """Tell whether an error speaks of the checkpoint itself, not of a store that fails or refuses: only then an older one is better."""
    return not error.passing and error.code in ("", "Damaged", *DEFINITE)


def _manifest(place: CheckpointPlace, settings: StoreSettings | None) -> tuple[CheckpointPlace, Manifest, str]:
    if place.home is not None:
        try:
            body = (place.home / MANIFEST).read_bytes()
            marker = parse_json((place.home / KEPT).read_bytes())
        except (OSError, ValueError) as error:
            raise StoreError(f"{place}: {place.home} cannot be read: {error}") from None
        return place, *_agreed(place, body, marker.get("manifest_sha256") if isinstance(marker, dict) else None)
    assert settings is not None
    if place.prefix == place.key.prefix:
        result = read_result(settings, place.key)
        if result is None:
            raise StoreError(f"{place}: {KEPT} and {MANIFEST} of {place.key} do not agree")
        return place, result.manifest, result.manifest_sha256
    try:
        return _stored_manifest(place, settings)
    except StoreError as error:
        if not is_its_fault(error):
            raise
        return _stored_manifest(place, settings)  # a byte that was damaged on the way down must not cost a checkpoint


def _stored_manifest(place: CheckpointPlace, settings: StoreSettings) -> tuple[CheckpointPlace, Manifest, str]:
    text, body_ = read_each(settings, (place.prefix + CHECKPOINT, place.prefix + MANIFEST))
    try:
        said = parse_json(text or b"")
        digest, path = said.get("sha256"), said.get("path") or place.path
    except (ValueError, AttributeError):
        raise StoreError(f"{place}: its {CHECKPOINT} is missing or cannot be read") from None
    if not isinstance(path, str) or name_problem(path):
        raise StoreError(f"{place}: its {CHECKPOINT} names no place for it")
    return replace(place, path=path), *_agreed(place, body_ or b"", digest)


def _agreed(place: CheckpointPlace, body: bytes, digest: object) -> tuple[Manifest, str]:
    if sha256(body) != digest:
        raise StoreError(f"{place}: its {MANIFEST} is not the one that its marker names")
    return decode(body, f"{place}: {MANIFEST}"), str(digest)


def _files(place: CheckpointPlace, manifest: Manifest) -> Iterator[StoredFile]:
    """Give the files of a checkpoint that a manifest names, by the path that each has below the output folder."""
    if place.home is None and place.prefix != place.key.prefix:
        # Files are named below the checkpoint's folder; one that is a single file, as it lies in the output.
        for entry in manifest.files:
            below, path = (place.name, place.path) if entry.path == place.path else (entry.path, f"{place.path}/{entry.path}")
            yield StoredFile(place.prefix + below, path, entry)
        return
    base = str(place.home) + "/" if place.home else place.prefix
    for entry in manifest.files:
        if entry.path == place.path or entry.path.startswith(f"{place.path}/"):
            yield StoredFile(base + entry.path, entry.path, entry)


def _is_there(file: StoredFile, settings: StoreSettings | None, place: CheckpointPlace) -> bool:
    if place.home is None:
        assert settings is not None
        return proof(settings, UploadTarget(file.entry, "", file.source)) == "there"
    here = Path(file.source)
    try:
        return here.stat().st_size == file.entry.size and sha256_of(here) == file.entry.sha256
    except OSError:
        return False
