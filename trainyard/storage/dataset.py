"""Files as the bucket keeps them for runs: cut into chunks by content, each once under ``data/<sha256>``, and an index of them.

The files lie one behind the other in a stream that is cut so that an edit changes few chunks: a big file begins and ends
one, and among small files a cut depends on the file before it alone. The index names chunks and files; the sha256 of it is
the sha256 of the whole. The same files give the same index on any machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import StoreError, UserError
from trainyard.jsontext import parse_json
from trainyard.pod.files import name_problem
from trainyard.storage.manifest import DATA, ManifestEntry, crc32_text, is_sha256, sha256
from trainyard.storage.podtargets import Extent, PodTarget, StoredObject

CHUNK = 32 << 20
"""Most bytes of a chunk: it is sent and fetched by one request."""
ALONE = 8 << 20
"""A file as big as this shares no chunk."""
PACK = 8 << 20
"""Bytes of small files in a chunk, about."""
_EACH = 512
"""What a file counts beside its bytes, so that tiny ones do not fill a chunk by the hundred thousand."""
_VERSION = 1
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file of this machine: its path in the data, where it is, its size and the sha256 it had when it was looked at."""

    path: str
    source: Path
    size: int
    sha256: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a local file."""

    source: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One object of the bucket; ``md5`` only where the store knows no CRC32."""

    sha256: str
    size: int
    crc32: str
    md5: str = ""

    @property
    def key(self) -> str:
        """Its key."""
        return DATA + self.sha256

    @property
    def entry(self) -> ManifestEntry:
        """The chunk as a file of one part."""
        return ManifestEntry(self.key, self.size, self.sha256, self.crc32, max(1, self.size), (self.crc32,))


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """One file of a data set."""

    path: str
    size: int
    sha256: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Dataset:
    """Chunks and the files that lie in them, one behind the other."""

    chunks: tuple[Chunk, ...]
    files: tuple[DatasetFile, ...]

    def encode(self) -> bytes:
        """Return the index as it lies in the bucket."""
        chunks = [[chunk.sha256, chunk.size, chunk.crc32] for chunk in self.chunks]
        files = [[file.path, file.size, file.sha256, *(["x"] if file.executable else [])] for file in self.files]
        return json.dumps({"version": _VERSION, "chunks": chunks, "files": files}, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """The name of it all."""
        return sha256(self.encode())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def decode(body: bytes, where: str) -> Dataset:
    """Read an index; raises StoreError for one that this version does not understand, or that would write where it must not."""
    try:
        document = parse_json(body)
        if document["version"] != _VERSION:
            raise StoreError(f"{where}: is of version {document['version']}; this Trainyard reads version {_VERSION}")
        chunks = tuple(Chunk(str(digest), int(size), str(crc)) for digest, size, crc in document["chunks"])
        files = tuple(DatasetFile(str(path), int(size), str(digest), bool(more)) for path, size, digest, *more in document["files"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(f"{where}: is no index of data: {error!r:.100}") from None
    # Chunks are read, renewed and deleted by their names: an empty one would be all data of the bucket.
    odd = [file.path for file in files if name_problem(file.path) or not is_sha256(file.sha256) or file.size < 0]
    odd += [chunk.sha256 for chunk in chunks if not is_sha256(chunk.sha256) or chunk.size <= 0]
    if odd or sum(chunk.size for chunk in chunks) != sum(file.size for file in files):
        raise StoreError(f"{where}: is no index of data: {f'it names {odd[0]!r:.200}' if odd else 'its sizes do not agree'}")
    return Dataset(chunks, files)


def pod_targets(dataset: Dataset) -> list[PodTarget]:
    """Return the files as a pod shall fetch them."""
    sources = [StoredObject(chunk.key) for chunk in dataset.chunks]
    number, offset, targets = 0, 0, []
    for file in dataset.files:
        extents, left = [], file.size
        while left:
            chunk = dataset.chunks[number]
            length = min(left, chunk.size - offset)
            whole = length == chunk.size
            extents.append(Extent(sources[number], offset, length, chunk.crc32 if whole else ""))
            left, offset = left - length, offset + length
            if offset == chunk.size:
                number, offset = number + 1, 0
        targets.append(PodTarget(file.path, file.size, file.sha256, tuple(extents), executable=file.executable))
    return targets


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A data set and where the bytes of each chunk are on this machine."""

    dataset: Dataset
    spans: tuple[tuple[Span, ...], ...]


def lay_out(files: Sequence[LocalSource], *, md5: bool = False) -> LaidOut:
    """Cut files into chunks and hash them; raises UserError for one that is not what it was when it was looked at."""
    ordered = sorted(files, key=lambda file: file.path)
    groups = list(_groups(ordered))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 2)) as pool:
        results = list(pool.map(lambda group: _hashed(group, md5), groups))
    chunks = tuple(chunk for group in results for chunk, _ in group)
    spans = tuple(span for group in results for _, span in group)
    named = tuple(DatasetFile(file.path, file.size, file.sha256, file.executable) for file in ordered)
    return LaidOut(Dataset(chunks, named), spans)


def read_span(span: Span) -> Iterator[bytes]:
    """Yield the bytes of a span; raises UserError when the file cannot be read, or ends before."""
    try:
        with span.source.open("rb") as file:
            file.seek(span.offset)
            left = span.length
            while left:
                block = file.read(min(_BLOCK, left))
                if not block:
                    raise changed(span.source)
                left -= len(block)
                yield block
    except OSError as error:
        raise UserError(f"{span.source}: cannot be read: {error.strerror or error}") from None


def changed(path: Path) -> UserError:
    """Return the error for a file that is not what it was."""
    return UserError(f"{path}: was changed while the run was prepared", hint="Run it again when nothing writes to it any more.")


def _groups(files: Sequence[LocalSource]) -> Iterator[list[LocalSource]]:
    """Yield a big file alone, and small ones together, cut by what the last one of them is called and how big it is."""
    group: list[LocalSource] = []
    size = 0
    for file in files:
        if file.size >= ALONE or size + file.size > CHUNK:
            if group:
                yield group
            group, size = [], 0
        if file.size >= ALONE:
            yield [file]
            continue
        group.append(file)
        size += file.size
        # Of bytes and names about one file in PACK bytes is the last of its chunk, whatever comes before it.
        if int.from_bytes(hashlib.sha256(file.path.encode()).digest()[:8], "big") % PACK < file.size + _EACH:
            yield group
            group, size = [], 0
    if group:
        yield group


def _hashed(group: Sequence[LocalSource], md5: bool) -> list[tuple[Chunk, tuple[Span, ...]]]:
    """Return the chunks of a group: one, or those of a single big file."""
    spans = [Span(file.source, offset, min(CHUNK, file.size - offset)) for file in group for offset in range(0, file.size, CHUNK)]
    together = [spans] if len(group) > 1 else [[span] for span in spans]
    of_file, chunks = {file.source: hashlib.sha256() for file in group}, []
    for some in together:
        whole, parts, crc = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        for span in some:
            for block in read_span(span):
                whole.update(block)
                crc = zlib.crc32(block, crc)
                of_file[span.source].update(block)
                if md5:
                    parts.update(block)
        size = sum(span.length for span in some)
        if size:
            chunks.append((Chunk(whole.hexdigest(), size, crc32_text(crc), parts.hexdigest() if md5 else ""), tuple(some)))
    for file in group:
        if of_file[file.source].hexdigest() != file.sha256:
            raise changed(file.source)
    return chunks
