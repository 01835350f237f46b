"""What a pod has committed alone becomes a result like any other, on the first machine with the bucket.

``_POD_COMMITTED`` and ``_pod.tar`` are verified, each file is brought to its place (big ones by the store itself, from ranges of
the tar) and proven as in every commit; then manifest and ``_SUCCESS`` or ``_KEPT``; then tar and marker go, the marker last. All
of it may be repeated after a crash at any point. What cannot be trusted is an error that names it, and nothing is removed.

Proven by the store: the tar was opened with the bucket's keys for this very run (metadata). By the marker: whoever wrote it held
the watchdog's secret, so verdict and index are the watchdog's. By the index: sha256 and CRC32 of each file, taken in the one
reading that also filled the parts. By the seal: what lies under each key has that CRC32 by the store's own word.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from trainyard.errors import StoreError
from trainyard.jsontext import parse_json
from trainyard.pod.signed import mac_of
from trainyard.storage import objects
from trainyard.storage.absent import absence
from trainyard.storage.answers import store_errors
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.commit import PATIENCE, Committed, answer, committed, drop_open, remove_strays
from trainyard.storage.deliver import DeliveryPatience, OnProgress, Progress, SendOrder, SendReport, deliver, each, send_parts, silent
from trainyard.storage.ending import Ending
from trainyard.storage.manifest import KEPT, RESERVED, SUCCESS, LeftOut, Manifest, ManifestEntry, ResultKey, entry_of, entry_problem, sha256
from trainyard.storage.markers import claim_of, refuse_foreign
from trainyard.storage.objects import PendingUpload, UploadTarget
from trainyard.storage.podplan import PROOF, TOKEN, remove_pod_commit
from trainyard.storage.podside import Range
from trainyard.storage.seal import SealedResult, read, seal

IN_MEMORY = 96 << 20
"""Bytes of parts that may lie in this machine's memory at once where the store copies no ranges."""


@dataclass(frozen=True, slots=True)
class _TarFile:
    """A file in the tar: where it lies, what it is, where it belongs."""

    name: str
    offset: int
    entry: ManifestEntry
    md5: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PodCommit:
    """A verified marker with its index."""

    token: str
    ending: Ending | None
    files: tuple[_TarFile, ...]
    left_out: tuple[LeftOut, ...]
    time: str
    """When it had written the marker, as UTC text."""


def seal_pod_commit(
    settings: StoreSettings,
    where: ResultKey,
    token: str | None = None,
    *,
    on_progress: OnProgress = silent,
    patience: DeliveryPatience = PATIENCE,
) -> Committed | None:
    """Make a result of what the pod of an attempt committed alone; None where it did not. Safe to call again until it returns.

    ``token`` is the run's; None where only the bucket knows it. Raises StoreError when marker, tar or index cannot be trusted,
    ForeignResult when they belong to another run.
    """
    settings = probed(settings)
    body = read(settings, where.pod_committed)
    if body is None:
        return None
    known = token if token is not None else _token(settings, where)
    done = committed(settings, where, known) if known is not None else None
    if done is not None and done.ending is None:
        _tidy(settings, where)
        return done
    verified = _verified(settings, where, known, body)
    refuse_foreign(settings, where, verified.token)
    if done is None or verified.ending is None:
        done = _seal(settings, where, verified, on_progress, patience)
    _tidy(settings, where)
    return done


def _tidy(settings: StoreSettings, where: ResultKey) -> None:
    """Abort what a controller that died has left open, and remove tar and marker; a store that refuses it costs no result."""
    with contextlib.suppress(StoreError):
        drop_open(settings, where)
    remove_pod_commit(settings, where)


def _seal(settings: StoreSettings, where: ResultKey, verified: PodCommit, on_progress: OnProgress, patience: DeliveryPatience) -> Committed:
    results = [file for file in verified.files if file.name.startswith("result/")]
    targets = [UploadTarget(file.entry, str(file.offset), _key(where, file), file.md5) for file in verified.files]
    deliver(settings, OfTar(settings, where.pod_tar), targets, on_progress, patience)
    delivered = {file.entry.path for file in verified.files if file not in results}
    left_out = tuple(entry for entry in verified.left_out if entry.path not in delivered)
    entries = tuple(sorted((file.entry for file in results), key=lambda entry: entry.path))
    manifest = Manifest(where, entries, left_out, verified.token)
    on_progress(Progress("seal", manifest.size, manifest.size, f"writing manifest and {KEPT if verified.ending else SUCCESS}"))
    refuse_foreign(settings, where, verified.token)
    remove_strays(settings, manifest, on_progress)
    digest = seal(settings, manifest, verified.ending, verified.time)
    return answer(settings, SealedResult(manifest, digest, verified.ending, verified.time), already=False)


def _key(where: ResultKey, file: _TarFile) -> str:
    return (where.prefix if file.name.startswith("result/") else where.logs) + file.entry.path


@dataclass(slots=True)
class _Room:
    """Memory for bodies on their way: who finds none left waits. What is larger than all of it goes alone."""

    size: int
    taken: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def hold(self, length: int) -> Iterator[None]:
        """Hold ``length`` bytes while the block lasts."""
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken + length <= self.size)
            self.taken += length
        try:
            yield
        finally:
            with self.changed:
                self.taken -= length
                self.changed.notify_all()


@dataclass(frozen=True, slots=True)
class OfTar:
    """The store holds the files already, one after the other in a tar; a target's source is where it begins there."""

    settings: StoreSettings
    tar: str
    room: _Room = field(default_factory=lambda: _Room(IN_MEMORY))

    def send(self, order: SendOrder) -> SendReport:
        """Let the store copy the parts of big files; small ones, and what it does not copy, pass through this machine."""

        def copy(work: PendingUpload, number: int) -> None:
            offset, length = work.target.entry.part(number)
            start = int(work.target.source) + offset
            if work.upload_id is None or not objects.copy_part(order.settings, work, number, self.tar, start):
                with self.room.hold(length):
                    self._pass_through(work, number, start, length)

        return send_parts(order, copy)

    def _pass_through(self, work: PendingUpload, number: int, start: int, length: int) -> None:
        body = self._range(start, length)
        if work.upload_id is None and sha256(body) != work.target.entry.sha256:
            raise StoreError(f"{self.settings.url}/{self.tar}: {work.target.entry.path} in it is not the file of its index")
        objects.put_part(self.settings, work, number, body)

    def sample(self, ranges: Sequence[Range]) -> list[str]:
        """Return the sha256 of ranges of files as the tar has them."""
        return each(lambda one: sha256(self._range(int(one[0]) + one[1], one[2])), ranges)

    def _range(self, start: int, length: int) -> bytes:
        return _range(self.settings, self.tar, start, length)


def _range(settings: StoreSettings, key: str, start: int, length: int) -> bytes:
    if not length:
        return b""
    with store_errors(f"read {settings.url}/{key}"):
        reply = s3(settings).get_object(Bucket=settings.bucket, Key=key, Range=f"bytes={start}-{start + length - 1}")
        body: bytes = reply["Body"].read()
    return body


# ---- what can be trusted


def _token(settings: StoreSettings, where: ResultKey) -> str | None:
    claim = claim_of(settings, where)
    return claim.token if claim is not None else None


def _verified(settings: StoreSettings, where: ResultKey, token: str | None, body: bytes) -> PodCommit:
    """Return what a marker vouches for; raises StoreError naming what cannot be trusted."""
    key = f"{settings.url}/{where.pod_committed}"
    said = _json(body, key)
    head = _head(settings, where, key)
    metadata = {str(name).lower(): str(value) for name, value in head.get("Metadata", {}).items()}
    secret, mac = str(said.get("secret", "")), str(said.pop("mac", ""))
    if hashlib.sha256(secret.encode()).hexdigest() != metadata.get(PROOF):
        _refuse(key, "it was not made by the watchdog of this run: it does not know the secret that the tar was opened with")
    if not hmac.compare_digest(mac_of(secret, said), mac):
        _refuse(key, "it was changed after the pod wrote it")
    if said.get("version") != 1:
        _refuse(key, f"made by a later Trainyard (version {said.get('version')})")
    if said.get("attempt") != str(where):
        _refuse(key, f"it belongs to {said.get('attempt')}")
    for whose in (metadata.get(TOKEN), token):
        if whose is not None and said.get("token") != whose:
            _refuse(key, f"it belongs to another run, whose token is '{str(said.get('token'))[:8]}'")
    if head.get("ContentLength") != said.get("tar"):
        _refuse(key, f"{where.pod_tar} has {head.get('ContentLength')} bytes, not {said.get('tar')}")
    return _indexed(settings, where, said, key)


def _head(settings: StoreSettings, where: ResultKey, key: str) -> Mapping[str, Any]:
    with absence(settings, f"look at {settings.url}/{where.pod_tar}") as refusal:
        head: Mapping[str, Any] = s3(settings).head_object(Bucket=settings.bucket, Key=where.pod_tar)
    if refusal:
        _refuse(key, f"there is no {where.pod_tar}")
    return head


def _indexed(settings: StoreSettings, where: ResultKey, said: Mapping[str, Any], key: str) -> PodCommit:
    tar = f"{settings.url}/{where.pod_tar}"
    try:
        offset, size, digest = int(said["index"]["offset"]), int(said["index"]["size"]), str(said["index"]["sha256"])
        body = _range(settings, where.pod_tar, offset, size)
        if sha256(body) != digest:
            _refuse(tar, "its index is not the one of the marker")
        index = parse_json(body)
        files = tuple(_file(item, offset, tar) for item in index["files"])
        left_out = tuple(LeftOut(str(e["path"]), int(e["size"]), str(e["why"]), e.get("wanted") is True) for e in index["left_out"])
        code, moment = said["exit_code"], str(said["time"])
        ending = None if said["why"] is None else Ending(str(said["why"]), code, tuple(map(str, said["checkpoints"])))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        _refuse(key, f"it cannot be read: {type(error).__name__}: {error}")
    if len({file.name for file in files}) != len(files):
        _refuse(tar, "its index names a file twice")
    return PodCommit(str(said["token"]), ending, files, tuple(sorted(left_out, key=lambda entry: entry.path)), moment)


def _file(item: Mapping[str, Any], end: int, tar: str) -> _TarFile:
    file = _TarFile(str(item["name"]), int(item["offset"]), entry_of(item), tuple(str(one) for one in item.get("md5", ())))
    entry = file.entry
    problem = entry_problem(entry) or ("" if entry.path.split("/")[0] not in RESERVED else "its name is kept for the commit itself")
    if not problem and file.name not in (f"result/{entry.path}", f"logs/{entry.path}"):
        problem = f"it is called {file.name!r} in the tar"
    if not problem and not (file.offset >= 0 and file.offset + entry.size <= end):
        problem = "it does not lie in the tar"
    if problem:
        _refuse(tar, f"its index names {entry.path!r}: {problem}")
    return file


def _json(body: bytes, key: str) -> dict[str, Any]:
    try:
        said = parse_json(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        _refuse(key, "it is no marker")
    return said


def _refuse(key: str, why: str) -> NoReturn:
    raise StoreError(f"{key}: {why}; nothing was sealed or removed", hint="Look at it with your store's own tools.")
