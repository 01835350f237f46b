"""Files that are being fetched: what of each has arrived, and its name when it is whole.

Standard library only, Python 3.8 or newer; runs ON the pod. A file gets its name only when it has the announced sha256; what
is half fetched lies in a hidden folder beside the files, with a list of what of it has arrived, so that the same order goes
on with it after a kill.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import threading
import zlib
from typing import Any

from trainyard.pod.files import Changed, crc32_text, read_blocks

# Beside the files.
FOLDER = ".trainyard-fetch"
SMALL = 1 << 20


class Damaged(Exception):
    """The bytes that came are not those that were announced: they are asked for again."""


class OtherFile(Exception):
    """Every part was right as far as anybody knew, and the whole is not the file that was announced."""


class Target:
    """A file on its way: its extents arrive in any order, their hash is taken in the file's."""

    def __init__(self, number: int, entry: dict[str, Any], root: str) -> None:
        self.number, self.path, self.size, self.sha256 = number, entry["path"], entry["size"], entry["sha256"]
        self.bound, self.extents, self.mode = entry.get("bound", ""), entry["extents"], entry.get("mode", 0o644)
        self.dest, lengths = os.path.join(root, self.path), [extent[2] for extent in self.extents]
        known = json.dumps([self.path, self.size, self.sha256, self.bound, lengths])
        self.part = os.path.join(root, FOLDER, hashlib.sha256(known.encode("utf-8")).hexdigest()[:32])
        self.have: set[int] = set()
        self.lock, self.next = threading.Lock(), 0
        self.digest, self.hashed = hashlib.sha256(), 0
        self.over, self.failed = False, False

    @property
    def small(self) -> bool:
        """Whether it comes in one piece and is kept in memory until it is whole."""
        return len(self.extents) <= 1 and self.size <= SMALL

    def kept(self) -> str | None:
        """Return the sha256 of what has the file's name already, if that is the file; an unread one is known by what it was bound to."""
        try:
            status = os.lstat(self.dest)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != self.size:
            return None
        expected = self.sha256
        if expected is None:
            try:
                with open(self.part + ".sha256", encoding="ascii") as file:
                    expected = file.read()
            except OSError:
                return None
        digest = hashlib.sha256()
        try:
            with open(self.dest, "rb", buffering=0) as opened:
                for block in read_blocks(opened, self.size):
                    digest.update(block)
        except (OSError, Changed):
            return None
        return expected if digest.hexdigest() == expected else None

    def resume(self) -> None:
        """Read which parts have arrived before."""
        try:
            with open(self.part + ".list", encoding="ascii") as file:
                lines = file.read().split("\n")[:-1]
            if os.path.getsize(self.part) == self.size:
                self.have = {int(line) for line in lines if line.isdigit() and int(line) < len(self.extents)}
        except OSError:
            self.have = set()
        if not self.have and not self.small:
            self.forget()
            with open(self.part, "wb") as file:
                file.truncate(self.size)

    def forget(self) -> None:
        """Begin anew."""
        for path in (self.part, self.part + ".list"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.have, self.next, self.hashed, self.digest = set(), 0, 0, hashlib.sha256()

    def missing_bytes(self) -> int:
        """Return the bytes that the disk must still take."""
        if self.small:
            return int(self.size)
        absent = sum(extent[2] for number, extent in enumerate(self.extents) if number not in self.have)
        return int(min(absent, max(0, self.size - os.stat(self.part).st_blocks * 512)))

    def write(self, view: memoryview, offset: int) -> None:
        """Write bytes of the file where they belong."""
        handle = os.open(self.part, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            while view:
                done = os.pwrite(handle, view, offset)
                view, offset = view[done:], offset + done
        finally:
            os.close(handle)

    def arrived(self, number: int) -> bool:
        """Note that an extent is on disk, and hash on as far as all has come; True when the file is whole and has its name."""
        with self.lock:
            self.have.add(number)
            handle = os.open(self.part + ".list", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, b"%d\n" % number)
            finally:
                os.close(handle)
            return self.advance()

    def advance(self) -> bool:
        """Hash on: all bytes up to here have come, and most of them are still in memory."""
        if self.next not in self.have:
            return False
        with open(self.part, "rb", buffering=0) as file:
            file.seek(self.hashed)
            while self.next in self.have:
                length = self.extents[self.next][2]
                for block in read_blocks(file, length):
                    self.digest.update(block)
                self.next, self.hashed = self.next + 1, self.hashed + length
        if self.next < len(self.extents):
            return False
        self.name(self.digest.hexdigest())
        return True

    def name(self, digest: str) -> None:
        """Give the file its name, if it is the one that was announced; raises OtherFile, and all of it is forgotten, else."""
        if self.sha256 not in (None, digest):
            self.forget()
            raise OtherFile("its sha256 is " + digest)
        if os.path.isdir(self.dest) and not os.path.islink(self.dest):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.dest)
        os.makedirs(os.path.dirname(self.dest), exist_ok=True)
        if self.sha256 is None:
            with open(self.part + ".sha256", "w", encoding="ascii") as file:
                file.write(digest)
            self.sha256 = digest
        os.chmod(self.part, self.mode)
        os.replace(self.part, self.dest)
        if not self.small:
            os.unlink(self.part + ".list")
        self.over = True

    def take_whole(self, data: bytes | bytearray) -> None:
        """Write a small file, which has come as one piece."""
        digest = hashlib.sha256(data).hexdigest()
        if self.sha256 not in (None, digest):
            raise Damaged("its sha256 is " + digest)
        with open(self.part, "wb") as file:
            file.write(data)
        self.name(digest)


class Piece:
    """One extent of a file while it is read: where it lies in the object and in the file, how much of it has come."""

    __slots__ = ("at", "buffer", "crc", "crc32", "done", "have", "length", "number", "offset", "target")

    def __init__(self, target: Target, number: int, at: int) -> None:
        self.target, self.number, self.at = target, number, at
        _, self.offset, self.length, self.crc32 = target.extents[number]
        self.have, self.crc, self.done = 0, 0, False
        self.buffer = bytearray()

    def take(self, view: memoryview) -> None:
        """Take the bytes that come next."""
        self.crc = zlib.crc32(view, self.crc)
        if self.target.small:
            self.buffer += view
        else:
            self.target.write(view, self.at + self.have)
        self.have += len(view)

    def close(self) -> bool:
        """See to it that what has come is right; True when its file is whole with it. Raises Damaged, and begins anew, when it is not."""
        if self.crc32 and crc32_text(self.crc) != self.crc32:
            self.again()
            raise Damaged("a part is damaged")
        if not self.target.small:
            whole = self.target.arrived(self.number)
        else:
            try:
                self.target.take_whole(self.buffer)
            except Damaged:
                self.again()
                raise
            whole, self.buffer = True, bytearray()
        self.done = True
        return whole

    def again(self) -> None:
        """Forget what has come."""
        self.have, self.crc, self.done = 0, 0, False
        self.buffer = bytearray()
