"""Fetch files of a manifest: parallel ranges, hashed while they arrive, resumable, each whole and proven before it has its name.

A half-fetched file lies in the staging folder; what of it is right is told by the manifest's CRC32 of each part,
so nothing but the manifest is needed to go on after a kill or a lost link. Bytes that come in one go are proven by the
sha256 of the whole file alone: the parts are looked at only when that is wrong.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from trainyard.errors import StoreError
from trainyard.files import sha256_of
from trainyard.retries import Backoff
from trainyard.storage.answers import store_errors
from trainyard.storage.carriers import Carriers
from trainyard.storage.client import THREADS, StoreSettings
from trainyard.storage.deliver import OnProgress, Progress
from trainyard.storage.manifest import DAMAGED, ManifestEntry, crc32_text
from trainyard.storage.pieces import IDLE, LOOK, STREAMS, PieceFlow, blocks_of, cut
from trainyard.storage.reader import BLOCK, blocks, url_of
from trainyard.storage.staging import Staging, need_space, staging, taken, trouble

TRIES = 8
"""Tries of a range without a byte, and of a file whose bytes are wrong."""
PAUSES = Backoff(0.2, 10.0)
PIECE = 16 << 20
"""Bytes of one request of several for one file: the smaller, the more requests, the bigger, the fewer threads serve a file."""
WORTH_BYTES, WORTH_FILES = 64 << 20, 256
"""More than this is fetched by processes of its own (carriers.py); they take a twentieth of a second to begin."""
_DEFINITE = (400, 401, 403, 404, 412, 416)


@dataclass(frozen=True, slots=True)
class _File:
    """One file on its way home."""

    settings: StoreSettings
    key: str
    entry: ManifestEntry
    path: Path
    stage: Staging
    counter: _Counter
    carriers: Carriers | None

    @property
    def url(self) -> str:
        return f"{self.settings.url}/{self.key}"


def fetch_files(
    settings: StoreSettings, prefix: str, selection: Sequence[tuple[ManifestEntry, str]], dest: Path, on_progress: OnProgress
) -> int:
    """Fetch files to their names below ``dest``; returns how many were there already.

    A file gets its name only whole, so one with other bytes is a person's: raises UserError, and nothing is fetched.
    The first error ends it, what has arrived is kept.
    """
    counter = _Counter(sum(entry.size for entry, _ in selection), on_progress)

    def waiting(text: str) -> None:
        on_progress(Progress("wait", 0, counter.total, text))

    names = [name for _, name in selection]
    with staging(dest, names, waiting) as stage, ThreadPoolExecutor(THREADS) as pool, ThreadPoolExecutor(THREADS) as files:
        here = _already_here(dest, selection, pool, counter)
        need_space(stage.folder, sum(_space(entry, stage.part(entry.sha256, dest / name)) for entry, name in selection if name not in here))
        missing = [(entry, name) for entry, name in selection if name not in here]
        with _carriers(settings, stage, [entry.size for entry, _ in missing]) as carriers:
            absent = [_File(settings, prefix + entry.path, entry, dest / name, stage, counter, carriers) for entry, name in missing]
            big, small = [file for file in absent if file.entry.size > PIECE], [file for file in absent if file.entry.size <= PIECE]
            _Queue(big, small, pool, carriers).work(files)
        return len(here)


@contextmanager
def _carriers(settings: StoreSettings, stage: Staging, sizes: Sequence[int]) -> Iterator[Carriers | None]:
    """Give the processes that fetch, where it is worth their start and they can be had."""
    carriers = None
    if settings.presign and (sum(sizes) > WORTH_BYTES or len(sizes) > WORTH_FILES):
        with suppress(OSError):
            carriers = Carriers(settings, stage.lock)
    try:
        yield carriers
    finally:
        if carriers:
            carriers.end()


def _already_here(dest: Path, selection: Sequence[tuple[ManifestEntry, str]], pool: Executor, counter: _Counter) -> set[str]:
    """Return the names whose files are there with the right bytes; raises UserError for those that have others."""

    def same(one: tuple[ManifestEntry, str]) -> bool:
        entry, path = one[0], dest / one[1]
        try:
            return path.is_file() and path.stat().st_size == entry.size and sha256_of(path) == entry.sha256
        except OSError as error:
            raise trouble(path, error) from None

    there = [(entry, name) for entry, name in selection if os.path.lexists(dest / name)]
    right = list(pool.map(same, there))
    if others := [dest / name for (_, name), is_same in zip(there, right, strict=True) if not is_same]:
        raise taken(others)
    counter.add(sum(entry.size for entry, _ in there))
    return {name for _, name in there}


def _space(entry: ManifestEntry, part: Path) -> int:
    """Return the bytes that a file still takes from the disk: its zeros stay holes, what was fetched before is there."""
    if entry.size <= PIECE:
        return entry.size  # of many small ones each look would be a good part of the whole
    lengths = (entry.part(number)[1] for number in range(1, len(entry.parts) + 1))
    full = sum(length for length, crc in zip(lengths, entry.parts, strict=True) if crc != _zeros_crc32(length))
    return max(0, full - (part.stat().st_blocks * 512 if part.exists() else 0))


class _Counter:
    """Count bytes of several threads."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self.total = total
        self._done, self._tell, self._lock = 0, on_progress, threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self._done += number
            self._tell(Progress("download", self._done, self.total))


class _Queue:
    """The files that are still to fetch, and the threads at it: as many as the processor can serve, or the line asks for."""

    def __init__(self, big: Sequence[_File], small: Sequence[_File], pool: ThreadPoolExecutor, carriers: Carriers | None) -> None:
        self._big, self._small, self._pool, self._carriers = deque(big), deque(small), pool, carriers
        self._workers, self._few = 0, len(big) < STREAMS

    def work(self, threads: Executor) -> None:
        """Fetch all of it; after an error or Ctrl-C only what is under way is waited for, what is queued is dropped."""
        begin = min(STREAMS if self._big else THREADS, len(self._big) + len(self._small))
        try:
            jobs = {self._another(threads) for _ in range(begin)}
            while jobs:
                before = cpu_of(self._carriers)
                done, jobs = wait(jobs, LOOK, FIRST_EXCEPTION)
                for job in done:
                    job.result()
                if cpu_of(self._carriers) - before < IDLE * LOOK and len(jobs) < THREADS and (self._big or self._small):
                    jobs.add(self._another(threads))
        except BaseException:
            self._big.clear()
            self._small.clear()
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise

    def _another(self, threads: Executor) -> Future[None]:
        self._workers += 1
        return threads.submit(self._fetch_each)

    def _fetch_each(self) -> None:
        while self._big or self._small:
            try:
                file = (self._big or self._small).popleft()
            except IndexError:
                continue  # another thread was faster
            # A file that one thread reads from end to end is hashed as it comes, for a fifth less work. Where that would
            # leave the line idle, a big one comes in pieces.
            short = len(self._big) + 1 < self._workers and self._workers > STREAMS
            _fetch_file(file, self._pool if file.entry.size > PIECE and (self._few or short) else None)


def _fetch_file(file: _File, pool: Executor | None) -> None:
    """Fetch one file, in pieces by ``pool``, or from end to end; the names of small ones are put off."""
    big, entry, part = file.entry.size > PIECE, file.entry, file.stage.part(file.entry.sha256, file.path)
    try:
        fresh = not part.exists()
        handle = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            os.ftruncate(handle, entry.size)
            right = _make_right(file, handle, pool, fresh=fresh)
            if big:
                os.fsync(handle)
        finally:
            os.close(handle)
        if not right:
            part.unlink()
            raise StoreError(f"{file.url}: its parts are right, but its sha256 is not that of the manifest", code=DAMAGED)
    except OSError as error:
        raise trouble(file.path, error) from None
    if big:
        file.stage.place(part, file.path)
    else:
        file.stage.put_off(part, file.path)


def _make_right(file: _File, handle: int, pool: Executor | None, *, fresh: bool) -> bool:
    """Fetch what is missing until the file is the manifest's; False when each part is and the whole is not."""
    missing = _missing(file.entry, handle, fresh=fresh)
    for attempt in range(TRIES):
        if _fill(file, handle, missing, pool) == file.entry.sha256:
            return True
        missing = _missing(file.entry, handle, fresh=False)
        if not missing:
            return False
        if attempt + 1 < TRIES:
            file.counter.add(-file.entry.size)
            time.sleep(PAUSES.pause(attempt + 1))
    raise StoreError(f"{file.url}: part {min(missing)} could not be fetched: the bytes are not those of the manifest", code=DAMAGED)


def _missing(entry: ManifestEntry, handle: int, *, fresh: bool) -> set[int]:
    """Return the parts that are not in the file."""
    numbers = range(1, len(entry.parts) + 1)
    if fresh and entry.size <= PIECE:
        return set(numbers)
    # A new file is all zeros: what must be zeros stays a hole.
    here = (_zeros_crc32(entry.part(n)[1]) if fresh else _part_crc32(handle, *entry.part(n)) for n in numbers)
    return {number for number, crc in zip(numbers, here, strict=True) if crc != entry.parts[number - 1]}


def _fill(file: _File, handle: int, missing: set[int], pool: Executor | None) -> str:
    """Fetch missing parts and return the sha256 of the whole file, which is taken in order while later pieces arrive."""
    digest, pieces = sha256(), cut(file.entry, missing, PIECE if pool else max(file.entry.size, 1))
    if not pool:
        for piece in pieces:
            piece.digest = digest
            if not piece.absent:
                file.counter.add(piece.end - piece.start)
            elif whole := _bring(file, handle, *piece.range(handle)):
                return whole
            piece.hash_rest(handle, digest)
        return digest.hexdigest()
    absent = [piece for piece in pieces if piece.absent]
    flow = PieceFlow(absent, lambda piece: pool.submit(_bring, file, handle, *piece.range(handle)), lambda: cpu_of(file.carriers))
    try:
        for piece in pieces:
            piece.digest = digest  # its turn: the thread that fetches it hashes from now on what it holds already
            if piece.absent:
                flow.wait_for(piece)
            else:
                file.counter.add(piece.end - piece.start)
            piece.hash_rest(handle, digest)
    finally:
        # Every piece must be over before the file is closed, or it would write into whatever gets the descriptor next.
        flow.end()
    return digest.hexdigest()


def cpu_of(carriers: Carriers | None) -> float:
    """Return the CPU seconds that fetching has used."""
    return time.process_time() + (carriers.cpu if carriers else 0.0)


def _bring(file: _File, handle: int, start: int, end: int, heard: Callable[[bytes], object]) -> str | None:
    """Fetch a range, by a carrier where there are some; returns the sha256 of a whole file that one has brought alone."""
    if file.carriers is None:
        _fetch_piece(file, handle, start, end, heard)
        return None
    with store_errors(f"fetch {file.url}"):
        url = url_of(file.settings, file.key)
    part = file.stage.part(file.entry.sha256, file.path)
    carried = file.carriers.carry(url, part, start, end, hashed=end - start == file.entry.size, heard=file.counter.add)
    if carried.at < end:
        if file.carriers.over:
            raise StoreError(f"{file.url}: dropped, as another file has failed or somebody has stopped it")
        _fetch_piece(file, handle, carried.at, end)  # with patience, and the store's own words for what is wrong
        return None
    return carried.sha256


def _fetch_piece(file: _File, handle: int, start: int, end: int, heard: Callable[[bytes], object] | None = None) -> None:
    """Write a range of a file, going on where a link was cut; ``heard`` is told of each block in order."""
    fails, problem = 0, ""
    while start < end:
        try:
            with store_errors(f"fetch {file.url}", *_DEFINITE) as refusal:
                for block in blocks(file.settings, file.key, start, end - start):
                    _write(handle, block, start)
                    start, fails = start + len(block), 0
                    file.counter.add(len(block))
                    if heard:
                        heard(block)
            problem = "the store ended before the file did"
        except (StoreError, ConnectionError) as error:
            problem = error.message if isinstance(error, StoreError) else str(error)
        if refusal:
            if refusal.code in ("404", "NoSuchKey"):
                said = f"{file.url}: the store answered {refusal.code}; the manifest names it, so it is missing now"
                raise StoreError(said, code=DAMAGED)
            raise StoreError(f"{file.url}: the store answered {refusal.code}")
        if start < end:
            fails += 1
            if fails == TRIES:
                number = start // file.entry.part_size + 1
                raise StoreError(f"{file.url}: part {number} could not be fetched: {problem}")
            time.sleep(PAUSES.pause(fails))


def _write(handle: int, block: bytes, offset: int) -> None:
    done = os.pwrite(handle, block, offset)
    while done < len(block):  # the disk is nearly full: the next one says so
        done += os.pwrite(handle, block[done:], offset + done)


def _part_crc32(handle: int, offset: int, length: int) -> str:
    crc, left = 0, length
    for block in blocks_of(handle, offset, offset + length):
        crc, left = zlib.crc32(block, crc), left - len(block)
    return crc32_text(crc) if not left else ""


@functools.lru_cache(maxsize=32)
def _zeros_crc32(length: int) -> str:
    crc, block = 0, bytes(BLOCK)
    for start in range(0, length, BLOCK):
        crc = zlib.crc32(block[: min(BLOCK, length - start)], crc)
    return crc32_text(crc)
