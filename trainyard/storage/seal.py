"""The last two objects of a commit, manifest and marker (``_SUCCESS`` or ``_KEPT``), and how a reader trusts them.

Knows nothing of pods. A marker is written only after everything it stands for is on disk at the store.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import StoreError
from trainyard.files import sync_all
from trainyard.jsontext import parse_json
from trainyard.storage.absent import absence
from trainyard.storage.answers import store_errors
from trainyard.storage.client import THREADS, StoreSettings, s3
from trainyard.storage.ending import Ending
from trainyard.storage.manifest import Manifest, ResultKey, crc32_of, decode, marker_body, sha256
from trainyard.storage.objects import UploadTarget, proof
from trainyard.storage.reader import at_once

_TOGETHER = 5
_DAMAGED = ("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody")


@dataclass(frozen=True, slots=True)
class SealedResult:
    """A result that ``_SUCCESS`` vouches for; with ``ending`` it is what was kept of a training that was no success."""

    manifest: Manifest
    manifest_sha256: str
    ending: Ending | None = None
    pod_time: str | None = None
    """When the pod had committed it alone, as UTC text; None where a controller did."""


def seal(settings: StoreSettings, manifest: Manifest, ending: Ending | None = None, pod_time: str | None = None) -> str:
    """Write manifest and marker, each read back; returns the manifest's sha256."""
    body = manifest.encode()
    digest = sha256(body)
    for _ in range(_TOGETHER):
        put_proven(settings, manifest.key.manifest, body)
        flush(settings)
        key = manifest.key.kept if ending else manifest.key.success
        put_proven(settings, key, marker_body(digest, manifest, ending, pod_time))
        flush(settings)
        if read(settings, manifest.key.manifest) == body:
            return digest
        time.sleep(random.random())  # another machine seals the same attempt: a pair of both would count for nothing
    raise StoreError(f"{settings.url}/{manifest.key.manifest}: something else writes it, too")


def read_result(settings: StoreSettings, where: ResultKey, *, prove: bool = False) -> SealedResult | None:
    """Return a result if its marker and manifest agree (and, with ``prove``, every object is in the bucket).

    A success counts before what was kept.
    """
    text, body = read_each(settings, (where.success, where.manifest))
    if body is None:
        return None
    kept = text is None or not are_paired(text, body)
    if kept:
        text = read(settings, where.kept)
    if text is None or not are_paired(text, body):
        return None
    marker = _parse_marker(text)
    manifest = decode(body, f"{settings.url}/{where.manifest}")
    if prove and not _all_there(settings, manifest):
        return None
    pod_time = str(marker["pod_committed"]) if marker.get("pod_committed") else None
    return SealedResult(manifest, sha256(body), _ending(marker) if kept else None, pod_time)


def are_paired(marker: bytes, manifest: bytes) -> bool:
    """Tell whether a marker is the manifest's own: it names its sha256 and, where it has a token, the same run."""
    return _parse_marker(marker).get("manifest_sha256") == sha256(manifest) and token_of(marker) in ("", token_of(manifest))


def token_of(body: bytes) -> str:
    """Return the run's token of a manifest or marker; empty when it has none."""
    return str(_parse_marker(body).get("token", ""))


def ending_in(body: bytes) -> Ending:
    """Return how a training ended, as a ``_KEPT`` tells it."""
    return _ending(_parse_marker(body))


def _parse_marker(body: bytes | None) -> dict[str, Any]:
    try:
        content = parse_json(body or b"")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _ending(content: dict[str, Any]) -> Ending:
    code, checkpoints = content.get("exit_code"), content.get("checkpoints")
    return Ending(
        str(content.get("why", "")),
        code if isinstance(code, int) else None,
        tuple(map(str, checkpoints if isinstance(checkpoints, list) else ())),
    )


def read(settings: StoreSettings, key: str) -> bytes | None:
    """Return a small object, None when there is none."""
    settled, body = at_once(settings, key)
    if settled:
        return body
    with absence(settings, f"read {settings.url}/{key}") as refusal:
        body = s3(settings).get_object(Bucket=settings.bucket, Key=key)["Body"].read()
    return None if refusal else body


def read_each(settings: StoreSettings, keys: Sequence[str]) -> list[bytes | None]:
    """Return several small objects in the time of one."""
    with ThreadPoolExecutor(len(keys)) as pool:
        return list(pool.map(lambda key: read(settings, key), keys))


def flush(settings: StoreSettings) -> None:
    """Bring the local store's files to disk: its server never does, and ``_SUCCESS`` must survive a power cut."""
    if settings.data_dir is None or not settings.data_dir.is_dir():
        return
    _syncfs(settings.data_dir)


def _syncfs(folder: Path) -> None:
    try:
        sync_all(folder)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written to disk: {error.strerror}") from None


def put_proven(settings: StoreSettings, key: str, body: bytes) -> None:
    """Write a small object and read it back; a byte damaged on the way is sent again."""
    more = {} if settings.checksums == "none" else {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": crc32_of(body)}
    problem = ""
    for _ in range(3):
        with store_errors(f"write {settings.url}/{key}", *_DAMAGED) as refusal:
            s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=body, **more)
        problem = f"the store refused it as {refusal.code}" if refusal else "the store acknowledged it, but does not give it back"
        if not refusal and read(settings, key) == body:
            return
    raise StoreError(f"{settings.url}/{key}: {problem}")


def _all_there(settings: StoreSettings, manifest: Manifest) -> bool:
    targets = [UploadTarget(entry, "", manifest.key.prefix + entry.path) for entry in manifest.files]
    with ThreadPoolExecutor(THREADS) as pool:
        return all(state == "there" for state in pool.map(lambda target: proof(settings, target), targets))
