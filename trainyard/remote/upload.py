"""One big file on its way up: slices over several channels, resumed, proven by sha256.

One SSH channel is capped at the server's window per round trip (2 MiB / 80 ms = 26 MB/s whatever the link);
six of them on one connection carried 4 to 6 times as much.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from trainyard.pod.fetcher import SLICES
from trainyard.remote.protocol import Transport, expect, with_values
from trainyard.shellscript import load

OnProgress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all, from any thread."""

SLICE = 16 * 1024 * 1024
CHANNELS = 6
_BLOCK = 64 * 1024
_READ = 1024 * 1024


class Upload:
    """One big file on its way up, slice by slice."""

    def __init__(
        self, t: Transport, local: Path, remote: str, size: int, mode: int, sha256: str, on_progress: OnProgress | None, *, keep_mode: bool
    ) -> None:
        self._t, self._local, self._remote, self._size = t, local, remote, size
        self._tally = ByteCounter(size, on_progress)
        self._what = f"{t.name}: {remote} cannot be written"
        self._values = {
            "path": remote, "folder": folder_of(remote), "stale": beside(remote, SLICES[1:]),
            "part": beside(remote, f"{SLICES[1:]}{sha256[:16]}"), "sha256": sha256,
            "size": size, "mode": octal(mode), "keep": int(keep_mode), "blocksize": _BLOCK, "slicesize": SLICE,
        }  # fmt: skip

    def run(self) -> bool:
        """Send what is missing; return whether the remote file changed."""
        begun = expect(self._t.exec(with_values(load(__package__, "put_begin"), **self._values)), self._what).text.split()
        if begun[:1] == ["same"] or begun[:1] == ["mode"]:
            return begun[0] == "mode"
        there = [word for word in begun if len(word) == 64]
        starts = range(0, self._size, SLICE)
        with ThreadPoolExecutor(CHANNELS) as pool:
            list(pool.map(lambda start: self._slice(start, there), starts))
        expect(self._t.exec(with_values(load(__package__, "put_end"), **self._values)), self._what)
        return True

    def _slice(self, start: int, there: list[str]) -> None:
        length, number = min(SLICE, self._size - start), start // SLICE
        with self._local.open("rb") as file:
            if number >= len(there) or _Span(file, start, length).sha256() != there[number]:
                text = with_values(load(__package__, "put_slice"), block=start // _BLOCK, **self._values)
                expect(self._t.exec(text, _Span(file, start, length)), self._what)
        self._tally.add(length)


class _Span:
    """A part of an open file, read as it is sent: many slices wait at once and must not lie in memory."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._left = file, length
        file.seek(start)

    def read(self, count: int = -1) -> bytes:
        """Read on, to the end of the part."""
        data = self._file.read(self._left if count < 0 else min(count, self._left))
        self._left -= len(data)
        return data

    def sha256(self) -> str:
        """Return the hash of what is left to read."""
        digest = hashlib.sha256()
        while data := self.read(_READ):
            digest.update(data)
        return digest.hexdigest()


class ByteCounter:
    """Bytes done, summed over threads."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total, self._on_progress = total, on_progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes and tell."""
        with self._lock:
            self._done += count
            if self._on_progress:
                self._on_progress(self._done, self._total)

    def part(self) -> OnProgress:
        """Return a progress function for one of several files."""
        before = 0

        def on_progress(done: int, _: int) -> None:
            nonlocal before
            step, before = done - before, done
            self.add(step)

        return on_progress


def folder_of(path: str) -> str:
    """Return the folder above a remote path."""
    return str(PurePosixPath(path).parent)


def beside(path: str, suffix: str) -> str:
    """Return the hidden name beside a remote path, on the same file system."""
    pure = PurePosixPath(path)
    return str(pure.with_name(f".{pure.name}.{suffix}"))


def octal(mode: int) -> str:
    """Return the mode as chmod and find read it."""
    return f"{mode:04o}"
