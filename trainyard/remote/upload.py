"""One big file on its way up: slices over several channels, resumed, proven by sha256.

One SSH channel is capped at the server's window per round trip (2 MiB / 80 ms = 26 MB/s whatever the link);
eight of them on one connection carry up to 8 times as much.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from trainyard.pod.fetcher import SLICES
from trainyard.remote.protocol import Transport, expect, with_values
from trainyard.shellscript import load

OnProgress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all, from any thread."""

SLICE = 4 * 1024 * 1024
"""What is sent again when it did not arrive whole."""
CHANNELS = 8
_LONGEST_RUN = 64
"""Slices that one command takes: what a lost link costs at most, and how often progress is told where nothing else tells it."""
_BLOCK = 64 * 1024
_READ = 1024 * 1024


class Upload:
    """One big file on its way up, in runs of slices."""

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
        with ThreadPoolExecutor(CHANNELS) as pool:
            list(pool.map(self._send, self._runs(there)))
        expect(self._t.exec(with_values(load(__package__, "put_end"), **self._values)), self._what)
        return True

    def _runs(self, there: list[str]) -> Iterator[range]:
        """Yield the slices that are missing, those beside each other together: a command of its own for each would wait for its answer."""
        missing = list[int]()
        with self._local.open("rb") as file:
            for number, start in enumerate(range(0, self._size, SLICE)):
                span = _Span(file, start, min(SLICE, self._size - start))
                if number >= len(there) or span.sha256() != there[number]:
                    missing.append(number)
                else:
                    self._tally.add(min(SLICE, self._size - start))
        longest = min(_LONGEST_RUN, math.ceil(len(missing) / CHANNELS))
        while missing:
            count = 1
            while count < min(longest, len(missing)) and missing[count] == missing[0] + count:
                count += 1
            yield range(missing[0], missing[0] + count)
            del missing[:count]

    def _send(self, run: range) -> None:
        start = run.start * SLICE
        with self._local.open("rb") as file:
            text = with_values(load(__package__, "put_slice"), block=start // _BLOCK, **self._values)
            span = _Span(file, start, min(run.stop * SLICE, self._size) - start, self._tally.add)
            expect(self._t.exec(text, span), self._what)


class _Span:
    """A part of an open file, read as it is sent: many slices wait at once and must not lie in memory."""

    def __init__(self, file: BinaryIO, start: int, length: int, on_read: Callable[[int], None] | None = None) -> None:
        self._file, self._left, self._on_read = file, length, on_read
        file.seek(start)

    def read(self, count: int = -1) -> bytes:
        """Read on, to the end of the part."""
        data = self._file.read(self._left if count < 0 else min(count, self._left))
        self._left -= len(data)
        if self._on_read:
            self._on_read(len(data))
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
