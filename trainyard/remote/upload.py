"""One big file on its way up: slices over several channels, resumed, proven by sha256.

One SSH channel is capped at the server's window per round trip (2 MiB / 80 ms = 26 MB/s whatever the link);
eight of them on one connection carry up to 8 times as much. Each takes the next slices when it has sent its last ones, so they
end together, and a server that allows one session is served by that one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from trainyard.pod.fetcher import SLICES
from trainyard.remote.protocol import NotSent, SharedInput, Transport, expect, with_values
from trainyard.shellscript import load

OnProgress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all, from any thread."""

SLICE = 4 * 1024 * 1024
"""What is sent again when it did not arrive whole."""
CHANNELS = 8
_LONGEST_RUN = 64
"""Slices that are sent in one piece: what a lost link costs at most."""
_BLOCK = 64 * 1024
_READ = 1024 * 1024


class Upload:
    """One big file on its way up."""

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
        begun = self._begin()
        if begun in (["same"], ["mode"]):
            return begun == ["mode"]
        plan = _Plan()
        plan.settle(self._missing(begun))
        self._lanes(plan)
        expect(self._t.exec(self._ending()), self._what)
        return True

    def send(self) -> str:
        """Send what is missing of a file that is needed; return the command that proves it and gives it its name.

        The channels are opened while the other side still looks for what is there.
        """
        plan, asked = _Plan(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            lanes = pool.submit(self._lanes, plan, asked)
            try:
                begun = self._begin(_Asked(asked))
                plan.settle([] if begun in (["same"], ["mode"]) else self._missing(begun))
            finally:
                asked.set()
                plan.settle([])
            lanes.result()
        return "" if begun in (["same"], ["mode"]) else self._ending()

    def _begin(self, stdin: _Asked | None = None) -> list[str]:
        return expect(self._t.exec(with_values(load(__package__, "put_begin"), **self._values), stdin), self._what).text.split()

    def _ending(self) -> str:
        return with_values(load(__package__, "put_end"), **self._values)

    def _missing(self, begun: Sequence[str]) -> list[int]:
        """Return the slices that are missing, by the hashes of those that are there."""
        missing, there = list[int](), [word for word in begun if len(word) == 64]
        with self._local.open("rb") as file:
            for number, start in enumerate(range(0, self._size, SLICE)):
                length = min(SLICE, self._size - start)
                if number >= len(there) or _Span(file, start, length).sha256() != there[number]:
                    missing.append(number)
                else:
                    self._tally.add(length)
        return missing

    def _lanes(self, plan: _Plan, after: threading.Event | None = None) -> None:
        if after:
            after.wait()
        with ThreadPoolExecutor(CHANNELS) as pool:
            lanes = [pool.submit(self._lane, plan) for _ in range(min(CHANNELS, -(-self._size // SLICE)))]
        refused = [lane.result() for lane in lanes]
        # Where the server grants fewer sessions, those that there are do the work of all.
        if all(refused) and not plan.done:
            raise refused[0] or NotSent(self._what)

    def _lane(self, plan: _Plan) -> NotSent | None:
        """Send slices as long as there are some; return why it got no session."""
        try:
            if plan.done:
                return None
            with self._local.open("rb") as file:
                lane = _Lane(plan, file, self._size, self._tally.add)
                expect(self._t.exec(with_values(load(__package__, "put_slices"), **self._values), lane), self._what)
        except NotSent as refused:
            return refused
        except BaseException:
            plan.stop()
            raise
        return None


class _Asked:
    """No input; tells that a command has got its session."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def read(self, _count: int = -1, /) -> bytes:
        """Return nothing, once it is asked for."""
        self._event.set()
        return b""


class _Plan:
    """What is to be sent, for whoever is ready to; known later than asked for."""

    def __init__(self) -> None:
        self._missing: list[int] = []
        self._settled, self._lock = threading.Event(), threading.Lock()

    def settle(self, missing: Sequence[int]) -> None:
        """Say it; only the first time counts."""
        with self._lock:
            if not self._settled.is_set():
                self._missing = list(missing)
                self._settled.set()

    def stop(self) -> None:
        """Nothing more is to be sent."""
        with self._lock:
            self._missing.clear()
            self._settled.set()

    @property
    def done(self) -> bool:
        """Tell whether everything was handed out."""
        return self._settled.is_set() and not self._missing

    def next(self) -> range:
        """Return slices beside each other: many at first, one by one at the end."""
        self._settled.wait()
        with self._lock:
            longest = max(1, min(_LONGEST_RUN, len(self._missing) // (2 * CHANNELS)))
            count = 0
            while count < min(longest, len(self._missing)) and self._missing[count] == self._missing[0] + count:
                count += 1
            run = range(self._missing[0], self._missing[0] + count) if count else range(0)
            del self._missing[:count]
            return run


class _Lane(SharedInput):
    """What one channel sends, read as it is sent: a line that says which blocks follow, then these, and so on."""

    def __init__(self, plan: _Plan, file: BinaryIO, size: int, on_read: Callable[[int], None]) -> None:
        self._plan, self._file, self._size, self._on_read = plan, file, size, on_read
        self._span: _Span | None = None
        self._last = False

    def read(self, count: int = -1, /) -> bytes:
        """Return at most ``count`` bytes, none at the end."""
        if self._span and (data := self._span.read(count)):
            return data
        run = range(0) if self._last else self._plan.next()
        if not run:
            return b""
        start, stop = run.start * SLICE, min(run.stop * SLICE, self._size)
        # A block that is not whole is read to the end of the input, so nothing may follow it.
        self._last = stop == self._size
        self._span = _Span(self._file, start, stop - start, self._on_read)
        return b"%d %d\n" % (start // _BLOCK, -(-(stop - start) // _BLOCK))


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
