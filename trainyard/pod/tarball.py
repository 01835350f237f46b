"""A tar that is made while it is sent: what of an output folder goes in, by the rules of a commit, and an index at its end.

Standard library only, Python 3.8 or newer; runs ON the pod.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from trainyard.pod.files import Changed, crc32_text, fingerprint, open_file, part_size_for, read_blocks
from trainyard.pod.outputs import sort_out, with_checkpoints
from trainyard.pod.signed import MIB, Lost

SMALLEST_PART, USUAL_PART, LARGEST_PART = 8 * MIB, 128 * MIB, 5 << 30
"""Stores take parts of 5 MiB to 5 GiB; some want all of one upload to be equal but the last, so one size holds for a tar."""
LARGEST_TAR = 5 << 40
INDEX = "_index.json"
TAR_BLOCK = 512


def part_size(total: int, parts: int) -> int:
    """Return the part size for so many bytes and URLs: enough for all, about 32 parts, whole MiB."""
    needed = -(-total // max(1, parts))
    size = max(SMALLEST_PART, needed, min(USUAL_PART, total // 32))
    size = -(-size // MIB) * MIB
    if size > LARGEST_PART or total > LARGEST_TAR:
        raise Lost(f"{total} bytes do not fit into {parts} parts of {LARGEST_PART} bytes at most, or into one object")
    return size


class TarEntry:
    """One file that goes into the tar."""

    def __init__(self, name: str, path: str, source: str, size: int, prints: tuple[int, ...] | None) -> None:
        self.name, self.path, self.source, self.size, self.prints = name, path, source, size, prints


class TarContents:
    """What goes into the tar, and what is told of the rest."""

    def __init__(self, entries: list[TarEntry], left_out: list[dict[str, Any]], checkpoints: list[str]) -> None:
        self.entries, self.left_out, self.checkpoints = entries, left_out, checkpoints


def header(name: str, size: int) -> bytes:
    """Return the header of a file in a tar; long names and sizes make it longer than a block."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """Return what fills the last block of a file."""
    return b"\0" * (-size % TAR_BLOCK)


class StreamedTar:
    """The tar as a stream of bytes; afterwards ``index`` tells where each file lies and what it is."""

    def __init__(self, listing: TarContents, largest_part: int, md5: bool) -> None:
        self.listing, self.largest_part, self.md5 = listing, largest_part, md5
        self.offset = 0
        self.files: list[dict[str, Any]] = []
        self.index: dict[str, Any] = {}

    def expected(self) -> int:
        """Return about how many bytes it will have, never fewer."""
        # Header and padding; an entry of the index; its CRC32 (and MD5) of each part.
        sizes = (entry.size + 4096 + 4 * len(entry.path) + 64 * (entry.size // self.largest_part) for entry in self.listing.entries)
        return sum(sizes) + sum(len(json.dumps(entry)) for entry in self.listing.left_out) + (1 << 16)

    def stream(self) -> Iterator[bytes]:
        """Yield the bytes; raises Changed for a file that is not as it was listed."""
        for entry in self.listing.entries:
            yield self.count(header(entry.name, entry.size))
            for piece in self.read(entry):
                yield self.count(piece)
            yield self.count(padding(entry.size))
        body = json.dumps({"version": 1, "files": self.files, "left_out": self.listing.left_out}, sort_keys=True).encode("utf-8")
        yield self.count(header(INDEX, len(body)))
        self.index = {"offset": self.offset, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        yield self.count(body + padding(len(body)) + b"\0" * (2 * TAR_BLOCK))

    def count(self, piece: bytes) -> bytes:
        """Count what goes out."""
        self.offset += len(piece)
        return piece

    def read(self, entry: TarEntry) -> Iterator[bytes]:
        """Yield a file's bytes, and note where they lie and what they hash to."""
        length = part_size_for(entry.size, self.largest_part)
        entry_of_index = {"name": entry.name, "path": entry.path, "offset": self.offset, "size": entry.size, "part_size": length}
        whole, full = hashlib.sha256(), 0
        parts, digests = [], []
        try:
            file = open_file(entry.source)
        except OSError as error:
            raise Changed(f"it cannot be read any more: {error.strerror}") from None
        with file:
            if entry.prints is not None and fingerprint(os.fstat(file.fileno())) != entry.prints:
                raise Changed("it was written to")
            for start in range(0, entry.size, length) or (0,):
                crc, digest = 0, hashlib.md5()
                for block in read_blocks(file, min(length, entry.size - start)):
                    whole.update(block)
                    full, crc = zlib.crc32(block, full), zlib.crc32(block, crc)
                    if self.md5:
                        digest.update(block)
                    yield bytes(block)
                parts.append(crc32_text(crc))
                digests.append(digest.hexdigest())
            if entry.prints is not None and fingerprint(os.fstat(file.fileno())) != entry.prints:
                raise Changed("it was written to while it was read")
        entry_of_index.update(sha256=whole.hexdigest(), crc32=crc32_text(full), parts=parts)
        self.files.append(dict(entry_of_index, md5=digests) if self.md5 else entry_of_index)


def list_files(plan: dict[str, Any], keep: bool, without: dict[str, str]) -> TarContents:
    """Return what is to be committed, by the rules of a commit; ``without`` are files that never stand still, with the reason.

    ``keep``: the training was no success. Then no excludes hold, and the newest checkpoint goes along.
    """
    spec: dict[str, Any] = {
        "root": plan["root"],
        "outputs": plan["outputs"],
        "excludes": [] if keep else plan["excludes"],
        "checkpoints": plan["checkpoints"] if keep else None,
        "reserved": plan["reserved"],
    }
    spec, checkpoints, other = with_checkpoints(spec)
    chosen, left_out = sort_out(spec)
    for entry in left_out:
        entry["why"] = next((why for path, why in other.items() if (entry["path"] + "/").startswith(path + "/")), entry["why"])
    entries, logs = [], []
    for path in sorted(chosen):
        seen = chosen[path]
        why = without.get(path)
        try:
            open_file(seen.source).close()
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        except Changed as error:
            why = str(error)
        if why is not None:
            left_out.append({"path": path, "size": seen.status.st_size, "why": why, "wanted": True})
            continue
        entries.append(TarEntry("result/" + path, path, seen.source, seen.status.st_size, fingerprint(seen.status)))
    for name, source in sorted(plan["logs"].items()):
        try:
            with open_file(source) as file:
                logs.append(TarEntry("logs/" + name, name, source, os.fstat(file.fileno()).st_size, None))  # it may grow
        except (OSError, Changed):
            continue
    return TarContents(logs + entries, left_out, checkpoints)
