"""The pieces of one file that several threads fetch: hashed in the file's order, from memory where that is possible."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from trainyard.storage.client import THREADS
from trainyard.storage.manifest import ManifestEntry
from trainyard.storage.reader import BLOCK

STREAMS = 4
"""Big files, or pieces of one, that are fetched at once at first: where the processor is the limit, more of them are a quarter slower."""
LOOK = 0.25
IDLE = 0.5
"""Where less than so many CPU seconds a second are used, the line is the limit: another file is begun every LOOK seconds."""


class Hash(Protocol):
    """A hash that is being taken."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""
        ...


@dataclass(slots=True, eq=False)
class FilePiece:
    """A range of a file that is fetched at once (``absent``) or is here already; hashed as far as ``hashed``."""

    start: int
    end: int
    absent: bool
    hashed: int = 0
    arrived: int = 0
    digest: Hash | None = None

    def __post_init__(self) -> None:
        self.hashed = self.arrived = self.start

    def range(self, handle: int) -> tuple[int, int, Callable[[bytes], None]]:
        """Return what _fetch_piece() is told: where, and what hears of each block that is written."""

        def hear(block: bytes) -> None:
            at, self.arrived = self.arrived, self.arrived + len(block)
            if self.digest is not None:
                for early in blocks_of(handle, self.hashed, at):
                    self.digest.update(early)
                self.digest.update(block)
                self.hashed = self.arrived

        return self.start, self.end, hear

    def hash_rest(self, handle: int, digest: Hash) -> None:
        """Hash what was written before the piece's turn came; nobody else is at it any more."""
        for block in blocks_of(handle, self.hashed, self.end):
            digest.update(block)


class PieceFlow:
    """The pieces of one file that are under way: few, as each more costs the processor, and more while that has nothing to do."""

    def __init__(
        self, pieces: Sequence[FilePiece], begin: Callable[[FilePiece], Future[Any]], cpu: Callable[[], float] = time.process_time
    ) -> None:
        self._queue, self._begin, self._cpu, self._width = deque(pieces), begin, cpu, STREAMS
        self._jobs: dict[FilePiece, Future[Any]] = {}
        self._looked, self._used = time.monotonic(), cpu()

    def wait_for(self, piece: FilePiece) -> None:
        """Return when the piece, the next in order, has arrived; raises its error."""
        while True:
            under_way = [job for job in self._jobs.values() if not job.done()]
            while self._queue and len(under_way) < self._width:
                following = self._queue.popleft()
                self._jobs[following] = self._begin(following)
                under_way.append(self._jobs[following])
            if self._jobs[piece].done():
                self._jobs.pop(piece).result()
                return
            wait(under_way, LOOK, FIRST_COMPLETED)
            self._look()

    def end(self) -> None:
        """Drop what has not begun and wait for what has."""
        for job in self._jobs.values():
            job.cancel()
        for job in self._jobs.values():
            _outcome(job)

    def _look(self) -> None:
        passed, used = time.monotonic() - self._looked, self._cpu() - self._used
        if passed >= LOOK:
            self._looked, self._used = self._looked + passed, self._used + used
            if used < IDLE * passed:
                self._width = min(self._width + 2, THREADS)


def cut(entry: ManifestEntry, missing: set[int], most: int) -> list[FilePiece]:
    """Cut a file, in order, into what is fetched at once and what is here already."""
    pieces = []
    for absent, numbers in itertools.groupby(range(1, len(entry.parts) + 1), key=lambda number: number in missing):
        spans = [entry.part(number) for number in numbers]
        end = sum(spans[-1])
        pieces += [FilePiece(start, min(start + most, end), absent) for start in range(spans[0][0], end, most)]
    return pieces


def _outcome(job: Future[Any]) -> Exception | None:
    """Wait for a job and return its error. Not by ``wait()``: that never hears of a job dropped by a pool's shutdown."""
    try:
        job.result()
    except (CancelledError, Exception) as error:
        return error
    return None


def blocks_of(handle: int, start: int, end: int) -> Iterator[memoryview]:
    """Yield a range of a file in order, each block in the same place of the memory."""
    space = memoryview(bytearray(min(BLOCK, end - start)))
    with open(handle, "rb", buffering=0, closefd=False) as file:
        file.seek(start)
        while start < end and (number := file.readinto(space[: end - start])):
            start += number
            yield space[:number]
