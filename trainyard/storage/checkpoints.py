"""The checkpoints of a run, newest first: those written while it trained, and those kept at the end of an attempt.

checkpoints/<user>/<run>/<attempt>/<name>/...   one complete checkpoint, its _manifest.json and _CHECKPOINT
models/<user>/<run>/<attempt>/...               a result under ``_KEPT`` that names its checkpoints

One counts when its marker names the sha256 of its manifest and every file of that is in the store, or at home. Reads
only; what writes them is another's work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.errors import StoreError
from trainyard.files import sha256_of
from trainyard.jsontext import parse_json
from trainyard.storage import bucket
from trainyard.storage.client import THREADS, StoreSettings
from trainyard.storage.manifest import CHECKPOINT, CHECKPOINTS, KEPT, MANIFEST, MODELS, Manifest, ManifestEntry, ResultKey, decode, sha256
from trainyard.storage.objects import UploadTarget, proof
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
    seen: list[tuple[int, float, int, CheckpointPlace]] = []
    base = f"{CHECKPOINTS}{user}/{run}/"
    for item in bucket.listing(settings, base):
        number, _, rest = item.key[len(base) :].partition("/")
        name, _, last = rest.partition("/")
        if last == CHECKPOINT and _is_attempt(number):
            key = ResultKey(user, run, int(number))
            seen.append((key.attempt, item.modified, 0, CheckpointPlace(key, f"{FOLDER}/{name}", f"{base}{number}/{name}/")))
    base = f"{MODELS}{user}/{run}/"
    for item in bucket.listing(settings, base):
        number, _, rest = item.key[len(base) :].partition("/")
        if rest == KEPT and _is_attempt(number):
            key = ResultKey(user, run, int(number))
            kept = ending_in(read(settings, key.kept) or b"").checkpoints
            seen += [
                (key.attempt, item.modified, -rank, CheckpointPlace(key, path, key.prefix)) for rank, path in enumerate(kept, 1)
            ]  # fmt: skip
    return [place for *_, place in sorted(seen, key=lambda one: one[:3], reverse=True)]


def places_at_home(home: Path, key: ResultKey) -> list[CheckpointPlace]:
    """Return the checkpoints of a result under ``_KEPT`` that came home over SSH."""
    with contextlib.suppress(OSError):
        return [CheckpointPlace(key, path, home=home) for path in ending_in((home / KEPT).read_bytes()).checkpoints]
    return []


def load(place: CheckpointPlace, settings: StoreSettings | None, token: str | None = None) -> Checkpoint:
    """Return a checkpoint, proven: marker and manifest agree, and every file is there as the manifest says.

    ``token``, where it is known, is that of its attempt. Raises StoreError naming what cannot be proven.
    """
    manifest, digest = _manifest(place, settings)
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


def _manifest(place: CheckpointPlace, settings: StoreSettings | None) -> tuple[Manifest, str]:
    if place.home is not None:
        try:
            body = (place.home / MANIFEST).read_bytes()
            marker = parse_json((place.home / KEPT).read_bytes())
        except (OSError, ValueError) as error:
            raise StoreError(f"{place}: {place.home} cannot be read: {error}") from None
        return _agreed(place, body, marker.get("manifest_sha256") if isinstance(marker, dict) else None)
    assert settings is not None
    if place.prefix == place.key.prefix:
        result = read_result(settings, place.key)
        if result is None:
            raise StoreError(f"{place}: {KEPT} and {MANIFEST} of {place.key} do not agree")
        return result.manifest, result.manifest_sha256
    marker_body, manifest_body = read_each(settings, (place.prefix + CHECKPOINT, place.prefix + MANIFEST))
    try:
        said = parse_json(marker_body or b"")
        digest = said.get("sha256")
    except (ValueError, AttributeError):
        raise StoreError(f"{place}: its {CHECKPOINT} is missing or cannot be read") from None
    return _agreed(place, manifest_body or b"", digest)


def _agreed(place: CheckpointPlace, body: bytes, digest: object) -> tuple[Manifest, str]:
    if sha256(body) != digest:
        raise StoreError(f"{place}: its {MANIFEST} is not the one that its marker names")
    return decode(body, f"{place}: {MANIFEST}"), str(digest)


def _files(place: CheckpointPlace, manifest: Manifest) -> Iterator[StoredFile]:
    """Give the files of a checkpoint that a manifest names, by the path that each has below the output folder."""
    whole = place.home is None and place.prefix != place.key.prefix
    for entry in manifest.files:
        path = entry.path
        if whole and not (path == place.path or path.startswith(f"{place.path}/")):
            path = f"{place.path}/{path}"  # named as it lies below the checkpoint's own folder
        if path != place.path and not path.startswith(f"{place.path}/"):
            continue
        below = path[len(place.path) + 1 :] or place.name
        key = str(place.home / path) if place.home else place.prefix + (below if whole else path)
        yield StoredFile(key, path, replace(entry, path=path))


def _is_there(file: StoredFile, settings: StoreSettings | None, place: CheckpointPlace) -> bool:
    if place.home is None:
        assert settings is not None
        return proof(settings, UploadTarget(file.entry, "", file.source)) == "there"
    here = Path(file.source)
    try:
        return here.stat().st_size == file.entry.size and sha256_of(here) == file.entry.sha256
    except OSError:
        return False


def _is_attempt(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0
