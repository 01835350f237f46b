"""Fetch a result: parallel ranges, resumable, every file proven by its sha256 before it gets its name.

A half-fetched file lies in the staging folder; what of it is right is told by the manifest's CRC32 of each part,
so nothing but the manifest is needed to go on after a kill or a lost link.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import StoreError, UserError
from trainyard.files import sha256_of
from trainyard.retries import Backoff
from trainyard.storage.answers import store_errors
from trainyard.storage.client import THREADS, StoreSettings, s3, sync_command
from trainyard.storage.deliver import OnProgress, Progress, silent
from trainyard.storage.ending import Ending
from trainyard.storage.find import Listed, find, list_results
from trainyard.storage.manifest import KEPT, MANIFEST, MODEL_FOLDER, SUCCESS, Manifest, ManifestEntry, ResultKey, crc32_text, decode
from trainyard.storage.seal import read_each, read_result
from trainyard.storage.staging import Staging, staging, taken, trouble

__all__ = ["Downloaded", "download", "fetch_files", "list_results"]

TRIES = 5
PAUSES = Backoff(0.2, 3.2)
BLOCK = 1 << 20
SMALL = 256 * 1024
_DEFINITE = (400, 401, 403, 404, 412, 416)


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What was fetched, and what of the result was not (files beside the model)."""

    key: ResultKey
    dest: Path
    files: int
    bytes: int
    reused: int
    manifest_sha256: str | None
    beside: tuple[str, ...] = ()
    ending: Ending | None = None
    """How the training ended when this is no success."""
    newer: tuple[Listed, ...] = ()
    """Later attempts of the same name, none of them a success: where a name was asked for, the newest success is taken."""


def download(
    settings: StoreSettings,
    reference: str,
    dest: Path,
    *,
    user: str | None = None,
    whole: bool = False,
    uncommitted: bool = False,
    on_progress: OnProgress = silent,
) -> Downloaded:
    """Fetch a result into ``dest`` as ``aws s3 sync`` of its model folder would, each file verified by sha256.

    ``whole`` keeps the tree of the result and takes the files beside the model too, and so does what was kept of a
    training that was no success: its checkpoint lies beside the model. A file that is there already
    with the right hash is kept. Raises UserError for an unknown reference, and, before anything is fetched, for a place that
    something else has, a file with other bytes included; StoreError for a result without ``_SUCCESS``.
    """
    result = find(settings, reference, user=user, uncommitted=uncommitted)
    manifest, digest, ending = _manifest(settings, result.key, uncommitted)
    base = "" if (whole or ending) and not result.path else result.path or MODEL_FOLDER
    files, base = _below(manifest, base)
    if not manifest.files:
        why = f" ({ending.why})" if ending else ""
        raise UserError(f"the training of {result.key} left no output{why}", hint=f"Its logs: {settings.url}/{result.key.logs}")
    if not files:
        raise UserError(f"'{reference}': the result {result.key} has no '{result.path}'", hint=_names(manifest))
    selection = [(entry, entry.path[len(base) :]) for entry in files]
    got = fetch_files(settings, result.key.prefix, selection, dest, on_progress)
    beside = tuple(entry.path for entry in manifest.files if entry not in files)
    return Downloaded(result.key, dest, len(files), sum(e.size for e in files), got, digest, beside, ending, result.newer)


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

    # Two big files at a time: the second one's ranges fill the pool while the first one is hashed. Of small ones many.
    names = [name for _, name in selection]
    with staging(dest, names, waiting) as stage, ThreadPoolExecutor(THREADS) as pool, ThreadPoolExecutor(2) as files:
        here = _already_here(dest, selection, pool, counter)
        jobs: list[Future[None]] = []
        for entry, name in sorted(selection, key=lambda one: one[0].size):
            if name in here:
                continue
            one = _File(settings, prefix + entry.path, entry, dest / name, stage, counter)
            jobs.append(pool.submit(_fetch_file, one, None) if entry.size <= SMALL else files.submit(_fetch_file, one, pool))
        _first_error(jobs, pool, files)
        return len(here)


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


@dataclass(frozen=True, slots=True)
class _File:
    """One file on its way home."""

    settings: StoreSettings
    key: str
    entry: ManifestEntry
    path: Path
    stage: Staging
    counter: _Counter


def _manifest(settings: StoreSettings, key: ResultKey, uncommitted: bool) -> tuple[Manifest, str | None, Ending | None]:
    result = read_result(settings, key)
    if result is not None:
        return result.manifest, result.manifest_sha256, result.ending
    success, kept, body = read_each(settings, (key.success, key.kept, key.manifest))
    marker = SUCCESS if success is not None else KEPT if kept is not None else None
    if not uncommitted and marker is None:
        raise StoreError(
            f"the result {key} was never committed (no {SUCCESS}): it may be incomplete",
            hint="Take it as it is with --partial, or finish it with `invoke recover` while its pod lives.",
        )
    if not uncommitted and body is not None:
        raise StoreError(
            f"the result {key} was committed ({marker} says so), but its {MANIFEST} is another one now: somebody has changed the bucket",
            hint="Without proof it can be taken as it is with --partial.",
        )
    if body is None and marker is not None:
        raise StoreError(
            f"the result {key} was committed ({marker} says so), but its {MANIFEST} is missing now: somebody has changed the bucket",
            hint=f"Its objects can be copied, unproved, with: {sync_command(settings, key.prefix, 'DIR')}",
        )
    if body is None:
        raise StoreError(
            f"the result {key} has no manifest, so nothing about it can be proven",
            hint=f"Its objects can be copied with: {sync_command(settings, key.prefix, 'DIR')}",
        )
    return decode(body, f"{settings.url}/{key.manifest}"), None, None


def _below(manifest: Manifest, base: str) -> tuple[list[ManifestEntry], str]:
    """Return the files below a folder (or the one file of that name), and the part of their path to cut off."""
    one = [entry for entry in manifest.files if entry.path == base.rstrip("/")]
    if one:
        return one, base[: base.rstrip("/").rfind("/") + 1]
    folder = base.rstrip("/") + "/" if base else ""
    files = [entry for entry in manifest.files if entry.path.startswith(folder)]
    if not files and base == MODEL_FOLDER:
        return list(manifest.files), ""  # a result without a model folder is taken as it is
    return files, folder


class _Counter:
    """Count bytes of several threads."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self.total = total
        self._done, self._tell, self._lock = 0, on_progress, threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self._done += number
            self._tell(Progress("download", self._done, self.total))


def _first_error(jobs: Sequence[Future[None]], *pools: ThreadPoolExecutor) -> None:
    """Wait for the jobs; after an error or Ctrl-C only what is under way is waited for, what is queued is dropped."""
    try:
        done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
        for job in done:
            job.result()
    except BaseException:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        raise


def _fetch_file(file: _File, pool: Executor | None) -> None:
    """Fetch one file, its parts by ``pool`` or one by one."""
    entry, part = file.entry, file.stage.part(file.entry.sha256, file.path)
    try:
        fresh = not part.exists()
        handle = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            os.ftruncate(handle, entry.size)
            _fill(file, handle, pool, fresh=fresh)
            os.fsync(handle)
        finally:
            os.close(handle)
        if sha256_of(part) != entry.sha256:
            part.unlink()
            raise StoreError(f"{file.settings.url}/{file.key}: its parts are right, but its sha256 is not that of the manifest")
        if os.path.lexists(file.path):  # put there while this was fetched
            raise taken([file.path])
        file.stage.place(part, file.path)
    except OSError as error:
        raise trouble(file.path, error) from None


def _fill(file: _File, handle: int, pool: Executor | None, *, fresh: bool) -> None:
    entry, missing = file.entry, []
    for number in range(1, len(entry.parts) + 1):
        offset, length = entry.part(number)
        # A new file is all zeros: what must be zeros stays a hole.
        have = _zeros_crc32(length) if fresh else _part_crc32(handle, offset, length)
        if have == entry.parts[number - 1]:
            file.counter.add(length)
        else:
            missing.append(number)
    if pool is None:
        for number in missing:
            _fetch_part(file, number, handle)
        return
    jobs: list[Future[None]] = []
    try:
        jobs += (pool.submit(_fetch_part, file, number, handle) for number in missing)
    finally:
        # Every part must be over before the file is closed, or it would write into whatever gets the descriptor next.
        problems = [problem for problem in map(_outcome, jobs) if problem is not None]
    if problems:
        raise problems[0]


def _outcome(job: Future[None]) -> Exception | None:
    """Wait for a job and return its error. Not by ``wait()``: that never hears of a job dropped by a pool's shutdown."""
    try:
        job.result()
    except (CancelledError, Exception) as error:
        return error
    return None


def _fetch_part(file: _File, number: int, handle: int) -> None:
    settings, key, entry = file.settings, file.key, file.entry
    offset, length = entry.part(number)
    for attempt in range(TRIES):
        counted = _Counted(file.counter)
        try:
            with store_errors(f"fetch {settings.url}/{key}", *_DEFINITE) as refusal:
                if _read_range(settings, key, offset, length, handle, counted.add) == entry.parts[number - 1]:
                    return
            problem = "the bytes are not those of the manifest"
        except (StoreError, ConnectionError) as error:
            problem = error.message if isinstance(error, StoreError) else str(error)
        if refusal:
            gone = "; the manifest names it, so it is missing now" if refusal.code in ("404", "NoSuchKey") else ""
            raise StoreError(f"{settings.url}/{key}: the store answered {refusal.code}{gone}")
        counted.undo()
        if attempt + 1 < TRIES:
            time.sleep(PAUSES.pause(attempt + 1))
    raise StoreError(f"{settings.url}/{key}: part {number} could not be fetched: {problem}")


class _Counted:
    """What one try has counted, so that a failed one can be taken back."""

    def __init__(self, counter: _Counter) -> None:
        self._counter, self._sum = counter, 0

    def add(self, number: int) -> None:
        self._sum += number
        self._counter.add(number)

    def undo(self) -> None:
        self._counter.add(-self._sum)


def _read_range(settings: StoreSettings, key: str, offset: int, length: int, handle: int, count: Callable[[int], None]) -> str:
    if length == 0:
        return crc32_text(0)
    answer = s3(settings).get_object(Bucket=settings.bucket, Key=key, Range=f"bytes={offset}-{offset + length - 1}")
    crc, position = 0, offset
    with answer["Body"] as body:
        while block := body.read(min(BLOCK, offset + length - position)):
            crc = zlib.crc32(block, crc)
            os.pwrite(handle, block, position)
            position += len(block)
            count(len(block))
    return crc32_text(crc) if position == offset + length else ""


def _part_crc32(handle: int, offset: int, length: int) -> str:
    crc, end = 0, offset + length
    while offset < end:
        block = os.pread(handle, min(BLOCK, end - offset), offset)
        crc, offset = zlib.crc32(block, crc), offset + len(block)
        if not block:
            return ""
    return crc32_text(crc)


@functools.lru_cache(maxsize=32)
def _zeros_crc32(length: int) -> str:
    crc, block = 0, bytes(BLOCK)
    for start in range(0, length, BLOCK):
        crc = zlib.crc32(block[: min(BLOCK, length - start)], crc)
    return crc32_text(crc)


def _names(manifest: Manifest) -> str:
    names = sorted({entry.path.split("/")[0] + ("/" if "/" in entry.path else "") for entry in manifest.files})
    return f"It holds: {', '.join(names)}."
