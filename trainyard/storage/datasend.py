"""Bring a data set into the bucket: what is there and proven is not sent, what grows old there is renewed.

Chunks are named by their content, so two machines that send the same are of no harm to each other, and one that was killed
goes on where it was. The index comes last: with it all is there.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.errors import StoreError
from trainyard.storage import objects
from trainyard.storage.answers import store_errors
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.dataset import Chunk, Dataset, LaidOut, Span, changed, decode, read_span
from trainyard.storage.deliver import DeliveryPatience, OnProgress, Progress, SendOrder, SendReport, deliver, each, send_parts, silent
from trainyard.storage.manifest import DATA, crc32_of, sha256
from trainyard.storage.objects import PendingUpload, UploadTarget
from trainyard.storage.podside import Range
from trainyard.storage.seal import read

BATCH = 64
"""Chunks that are proven together."""
DAY = 86400.0
_BLOCK = 1 << 20
_NOT_COPIED = (400, 403, 404, 405, 412, 501)


@dataclass(frozen=True, slots=True)
class DataSent:
    """What bringing data into a bucket took. Sizes are bytes."""

    size: int
    sent: int
    """What travelled; the rest was there."""
    renewed: int
    """Objects whose age was set back."""


def send(
    settings: StoreSettings,
    laid_out: LaidOut,
    now: float,
    *,
    keep_days: int | None = None,
    again: bool = False,
    on_progress: OnProgress = silent,
    patience: DeliveryPatience | None = None,
) -> DataSent:
    """Return when every chunk and the index are proven to be in the bucket.

    ``keep_days``: after so many days the bucket's rules expire data; what is older than half of them at ``now`` (epoch
    seconds) is renewed. ``again`` trusts nothing that is there. Raises StoreError when the store fails, UserError when a
    file is not what it was.
    """
    settings, index = probed(settings), laid_out.dataset.encode()
    md5 = hashlib.md5(index, usedforsecurity=False).hexdigest() if settings.checksums == "none" else ""
    of_index = Chunk(sha256(index), len(index), crc32_of(index), md5)
    chunks = {chunk.sha256: (chunk, spans) for chunk, spans in zip(laid_out.dataset.chunks, laid_out.spans, strict=True)}
    targets = [_target(chunk) for chunk, _ in chunks.values()] + [_target(of_index)]
    seen = each(lambda target: objects.look(settings, target), targets)
    old = now - keep_days * DAY / 2 if keep_days else None
    stale = [t for t, one in zip(targets, seen, strict=True) if one.proof == "there" and old is not None and one.modified < old]
    renewed = {target.key for target, done in zip(stale, each(lambda t: _renew(settings, t), stale), strict=True) if done}
    missing = [
        target for target, one in zip(targets, seen, strict=True)
        if again or one.proof != "there" or (target in stale and target.key not in renewed)
    ]  # fmt: skip
    there = sum(target.entry.size for target in targets) - sum(target.entry.size for target in missing)
    carrier = _OfChunks({key: spans for key, (_, spans) in chunks.items()} | {of_index.sha256: index})
    _deliver(settings, carrier, missing, there, on_progress, patience or DeliveryPatience())
    return DataSent(laid_out.dataset.size, sum(target.entry.size for target in missing), len(renewed))


def keep(settings: StoreSettings, digest: str, now: float, keep_days: int | None) -> Dataset:
    """Renew what grows old of a data set that an earlier run has brought, as send() does; return it.

    Raises StoreError, code NoSuchKey, when a part of it is not in the bucket (any more).
    """
    dataset = index_of(settings, digest)
    targets = [_target(chunk) for chunk in dict.fromkeys(dataset.chunks)]
    seen = each(lambda target: objects.look(settings, target), targets)
    for target, one in zip(targets, seen, strict=True):
        if one.proof == "absent":
            raise StoreError(f"{settings.url}/{target.key}: is not in the bucket (any more)", hint=_ANEW, code="NoSuchKey")
    if keep_days:
        old = now - keep_days * DAY / 2
        stale = [target for target, one in zip(targets, seen, strict=True) if one.modified < old]
        body = dataset.encode()
        each(lambda target: _renew(settings, target), [*stale, _target(Chunk(digest, len(body), crc32_of(body)))] if stale else [])
    return dataset


_ANEW = "Name the data again with --data."


def index_of(settings: StoreSettings, digest: str) -> Dataset:
    """Return a data set by its index; raises StoreError, code NoSuchKey (it is not in the bucket any more) or Damaged (it is another)."""
    where = f"{settings.url}/{DATA}{digest}"
    body = read(settings, DATA + digest)
    if body is None:
        raise StoreError(f"{where}: is not in the bucket (any more)", hint=_ANEW, code="NoSuchKey")
    if sha256(body) != digest:
        said = f"{where}: is another object than its name says: somebody has changed the bucket"
        raise StoreError(said, hint=_ANEW, code="Damaged")
    return decode(body, where)


def _target(chunk: Chunk) -> UploadTarget:
    return UploadTarget(chunk.entry, chunk.sha256, chunk.key, (chunk.md5,) if chunk.md5 else ())


def _renew(settings: StoreSettings, target: UploadTarget) -> bool:
    """Let an object be as if it had just been put; False where the store copies nothing onto itself: then it is sent again."""
    # The algorithm that it was sent with: VersityGW 1.8.0 writes down the checksum of nothing for another one.
    more: dict[str, Any] = {} if settings.checksums == "none" else {"ChecksumAlgorithm": "SHA256"}
    source = {"Bucket": settings.bucket, "Key": target.key}
    with store_errors(f"renew {settings.url}/{target.key}", *_NOT_COPIED) as refusal:
        s3(settings).copy_object(Bucket=settings.bucket, Key=target.key, CopySource=source, MetadataDirective="REPLACE", **more)
    return not refusal and objects.proof(settings, target) == "there"


def _deliver(
    settings: StoreSettings,
    carrier: _OfChunks,
    targets: Sequence[UploadTarget],
    there: int,
    on_progress: OnProgress,
    patience: DeliveryPatience,
) -> None:
    total = there + sum(target.entry.size for target in targets)
    for start in range(0, len(targets), BATCH):
        batch, before = targets[start : start + BATCH], there

        def tell(progress: Progress, before: int = before) -> None:
            on_progress(Progress("upload", before + progress.done, total, "sending the data to the bucket"))

        try:
            deliver(settings, carrier, batch, tell, patience)
        except StoreError as error:
            for target in batch:
                carrier.refuse_changed(target.source)
            said = f"the data did not get into {settings.url}: {error.message}"
            raise StoreError(said, hint=error.hint, code=error.code, passing=error.passing) from error
        there += sum(target.entry.size for target in batch)


@dataclass(frozen=True, slots=True)
class _OfChunks:
    """This machine sends chunks out of its files."""

    bodies: Mapping[str, tuple[Span, ...] | bytes]

    def send(self, order: SendOrder) -> SendReport:
        """Send each chunk by one request; the store refuses bytes that are not those of its CRC32."""

        def put(work: PendingUpload, number: int) -> None:
            with self._open(work.target.source) as body:
                objects.put_part(order.settings, work, number, body)

        return send_parts(order, put)

    def sample(self, ranges: Sequence[Range]) -> list[str]:
        """Return the sha256 of ranges."""
        digests = []
        for source, offset, length in ranges:
            with self._open(source) as body:
                body.seek(offset)
                digests.append(hashlib.sha256(body.read(length)).hexdigest())
        return digests

    def refuse_changed(self, digest: str) -> None:
        """Raise UserError when the files of a chunk do not hold it any more."""
        body, whole = self.bodies[digest], hashlib.sha256()
        for span in () if isinstance(body, bytes) else body:
            for block in read_span(span):
                whole.update(block)
        if not isinstance(body, bytes) and whole.hexdigest() != digest:
            raise changed(body[0].source)

    def _open(self, source: str) -> io.BufferedReader:
        return io.BufferedReader(ChunkBody(self.bodies[source]), _BLOCK)


class ChunkBody(io.RawIOBase):
    """A chunk as a file that is read from the files it lies in."""

    def __init__(self, body: tuple[Span, ...] | bytes) -> None:
        self._body, self._at = body, 0
        self._ends = [len(body)] if isinstance(body, bytes) else list(itertools.accumulate(span.length for span in body))
        self._size = self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return self._size

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is: a request that failed is sent once more."""
        return True

    def tell(self) -> int:
        """Return where it is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read on, at most to the end of the file that is being read."""
        most = min(len(buffer), self._size - self._at)
        if most <= 0:
            return 0
        data = self._body[self._at : self._at + most] if isinstance(self._body, bytes) else self._of_files(most)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _of_files(self, most: int) -> bytes:
        assert not isinstance(self._body, bytes)
        number = bisect.bisect_right(self._ends, self._at)
        span = self._body[number]
        inside = self._at - (self._ends[number] - span.length)
        return next(read_span(Span(span.source, span.offset + inside, min(most, span.length - inside))), b"")
