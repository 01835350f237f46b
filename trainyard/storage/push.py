"""Bring a result that came home over SSH into the bucket after all, against the manifest that was made on the pod."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainyard.errors import StoreError, UserError
from trainyard.pod.files import Changed, hash_file
from trainyard.pod.scanner import sample
from trainyard.storage import local, objects
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import PATIENCE, Committed, answer, committed, drop_open
from trainyard.storage.datasend import ChunkBody
from trainyard.storage.dataset import Span
from trainyard.storage.deliver import DeliveryPatience, OnProgress, Progress, SendOrder, SendReport, deliver, each, send_parts, silent
from trainyard.storage.manifest import KEPT, MANIFEST, PART_SIZE, ManifestEntry, decode, entry_of
from trainyard.storage.markers import refuse_foreign
from trainyard.storage.objects import PendingUpload, UploadTarget
from trainyard.storage.podplan import remove_pod_commit
from trainyard.storage.podside import Range
from trainyard.storage.reader import BLOCK
from trainyard.storage.seal import SealedResult, ending_in, seal


def push(
    settings: StoreSettings,
    home: Path,
    logs: Mapping[str, Path],
    *,
    on_progress: OnProgress = silent,
    patience: DeliveryPatience = PATIENCE,
) -> Committed:
    """Commit the result that lies at ``home`` with its manifest; safe to call again until it returns.

    With ``_KEPT`` beside it, it is committed as no success. ``logs`` are files by the name they get below the logs
    folder. Raises ForeignResult when another run's result lies there, StoreError when the store fails, or a file here
    is not (any more) the one of the manifest.
    """
    local.revive(settings)
    settings = probed(settings)
    manifest = decode(_read(home / MANIFEST), str(home / MANIFEST))
    where = manifest.key
    ending = ending_in(_read(home / KEPT)) if (home / KEPT).is_file() else None
    refuse_foreign(settings, where, manifest.token)
    done = committed(settings, where, manifest.token)
    if done is not None and (done.ending is None or ending is not None):
        drop_open(settings, where)  # whoever sealed it may have died before it did this
        return done
    on_progress(Progress("scan", 0, manifest.size, "hashing what came home"))
    md5 = settings.checksums == "none"
    targets = each(lambda entry: _target(home / entry.path, entry, where.prefix + entry.path, md5), manifest.files)
    for name, path in logs.items():
        hashes = _hashed(path, PART_SIZE, md5)
        targets.append(UploadTarget(entry_of(hashes, name), str(path), where.logs + name, tuple(hashes.get("md5", ()))))
    deliver(settings, OfHome(), targets, on_progress, patience)
    refuse_foreign(settings, where, manifest.token)
    digest = seal(settings, manifest, ending)
    drop_open(settings, where)
    remove_pod_commit(settings, where)
    return answer(settings, SealedResult(manifest, digest, ending), already=False)


class OfHome:
    """This machine sends the files, with the store's own keys."""

    def send(self, order: SendOrder) -> SendReport:
        """Send what is left of each file, its parts by several threads; all of them are hashed already."""

        def put(work: PendingUpload, number: int) -> None:
            span = Span(Path(work.target.source), *work.target.entry.part(number))
            try:
                with io.BufferedReader(ChunkBody((span,)), BLOCK) as body:  # never whole parts in memory, of many at once
                    objects.put_part(order.settings, work, number, body)
            except UserError as error:
                raise StoreError(f"{work.target.source}: cannot be sent: {error.message}") from None

        return send_parts(order, put)

    def sample(self, ranges: Sequence[Range]) -> list[str]:
        """Return the sha256 of ranges."""
        samples = [{"path": path, "offset": offset, "length": length} for path, offset, length in ranges]
        return [str(digest) for digest in sample({"ranges": samples})["sha256"]]


def _target(path: Path, entry: ManifestEntry, key: str, md5: bool) -> UploadTarget:
    hashes = _hashed(path, entry.part_size, md5)
    if hashes["sha256"] != entry.sha256:
        raise StoreError(f"{path}: is not the file that came home: its sha256 is not that of the manifest")
    return UploadTarget(entry, str(path), key, tuple(hashes.get("md5", ())))


def _hashed(path: Path, part_size: int, md5: bool) -> dict[str, Any]:
    try:
        return hash_file(str(path), part_size, md5)[0]
    except (OSError, Changed) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
