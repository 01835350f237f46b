"""The second way home: fetch a result over SSH, verified against the same manifest that a commit would write.

Taken when there is no bucket, or when the pod cannot send to it. Nothing of the pod's word is trusted but the
manifest it made before the first byte was sent: each file must arrive with the sha256 named there.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainyard.errors import PodCannotUpload, PodFailed, StoreError
from trainyard.files import sha256_of, write_atomic
from trainyard.pod.files import hash_file
from trainyard.remote import transfer
from trainyard.remote.protocol import Transport
from trainyard.remote.stream import StreamedFile, get_stream, streams
from trainyard.remote.transfer import SMALL
from trainyard.remote.upload import ByteCounter
from trainyard.storage import bare, podside
from trainyard.storage.commit import ending_of, frozen_scan, manifest_of
from trainyard.storage.deliver import OnProgress, Progress, silent
from trainyard.storage.ending import Ending
from trainyard.storage.manifest import KEPT, MANIFEST, PART_SIZE, Keep, LeftOut, ResultKey, decode, marker_body, sha256
from trainyard.storage.staging import Staging, staging, trouble

CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result that lies on this machine, as ``path``/model/... with its manifest beside it."""

    path: Path
    manifest_sha256: str
    files: int
    bytes: int
    left_out: tuple[LeftOut, ...]
    ending: Ending | None = None
    """How the training ended when this is no success."""
    moved: tuple[tuple[Path, Path], ...] = ()
    """What was in the way, with other bytes than the result's, and where it lies now."""


def fetch(
    transport: Transport,
    where: ResultKey,
    output_dir: str,
    outputs: Sequence[str],
    excludes: Sequence[str],
    dest: Path,
    *,
    token: str = "",
    keep: Keep | None = None,
    copies: Collection[str] = (),
    on_progress: OnProgress = silent,
    pause: Callable[[float], None] = time.sleep,
    known: podside.ScannedFiles | None = None,
) -> Fetched:
    """Fetch the output folder of a pod; safe to call again: what is here with the right hash is not sent twice.

    A pod waits and costs money: what is in the way is neither replaced nor a reason to stop, it gets another name. Only
    ``copies`` (names at the top that we write there ourselves) and what an earlier fetch has brought are replaced.
    With ``keep`` what a training left that was no success, as commit() keeps it; ``_KEPT`` beside it says so.
    Raises StoreError when a file does not arrive as the manifest says, Unreachable when the link is lost.
    """
    pod = podside.FinishedPod(transport, output_dir.rstrip("/"))
    excludes = () if keep else excludes
    try:
        scan = frozen_scan(pod, outputs, excludes, keep, {}, None, PART_SIZE, on_progress, pause, known)
    except PodCannotUpload:
        scan = bare.listed(transport, pod.root, outputs, excludes, keep)
    place = _Place(dest, set(copies))
    arrived = _fetch_all(transport, scan["files"], place, on_progress)
    manifest = manifest_of(where, token, {**scan, "files": arrived}, set())
    body, ending = manifest.encode(), ending_of(keep, scan)
    _keep(dest / MANIFEST, body)
    if ending:
        _keep(dest / KEPT, marker_body(sha256(body), manifest, ending))
    podside.mark_safe(pod, sha256(body))
    return Fetched(dest, sha256(body), len(manifest.files), manifest.size, manifest.left_out, ending, tuple(place.moved))


class _Place:
    """The folder at home, and what is in the way there."""

    def __init__(self, dest: Path, copies: set[str]) -> None:
        self.dest, self.moved, self._lock = dest, list[tuple[Path, Path]](), threading.Lock()
        self._copies, self._ours = copies, _brought_before(dest)

    def make_way(self, names: Sequence[str]) -> None:
        """Move what is no file of its own away from where a file must be, and what is no folder from where a folder must be."""
        for name in names:
            path = self.dest / name
            for above in reversed(path.parents):
                if self.dest in above.parents and os.path.lexists(above) and not above.is_dir():
                    self.move(above)
            if os.path.lexists(path) and not path.is_file():
                self.move(path)

    def move(self, path: Path, digest: str | None = None) -> None:
        """Give what has a name another one, unless it is ours to replace (``digest`` is its sha256)."""
        name = path.relative_to(self.dest).as_posix()
        with self._lock:
            if digest is not None and (name.partition("/")[0] in self._copies or (name, digest) in self._ours):
                path.unlink()
                return
            free = next(one for number in itertools.count(1) if not os.path.lexists(one := path.with_name(f"{path.name}.before-{number}")))
            os.rename(path, free)
            self.moved.append((path, free))


def _brought_before(dest: Path) -> set[tuple[str, str]]:
    """Return path and sha256 of what the manifest at home names."""
    try:
        return {(entry.path, entry.sha256) for entry in decode((dest / MANIFEST).read_bytes(), str(dest)).files}
    except (OSError, StoreError):
        return set()


def _keep(path: Path, body: bytes) -> None:
    draft = path.parent.with_name(f".{path.parent.name}{path.name}.new")  # beside the result: inside it may be anybody's name
    try:
        write_atomic(path, body, durable=True, draft=draft)
    except OSError as error:
        raise trouble(path, error) from None


def _fetch_all(transport: Transport, files: Sequence[Mapping[str, Any]], place: _Place, on_progress: OnProgress) -> list[Mapping[str, Any]]:
    total = sum(int(file["size"]) for file in files)

    def waiting(text: str) -> None:
        on_progress(Progress("wait", 0, total, text))

    def fetching(done: int, total: int) -> None:
        on_progress(Progress("fetch", done, total, "fetching the result over SSH"))

    names = [str(file["path"]) for file in files]
    try:
        place.make_way(names)
    except OSError as error:
        raise trouble(place.dest, error) from None
    with staging(place.dest, names, waiting) as stage, ThreadPoolExecutor(CHANNELS) as pool:
        errand = _Errand(transport, files, place, stage, ByteCounter(total, fetching))
        small, big = errand.missing(pool)
        wrong = list(pool.map(errand.get_some, streams(small)))
        list(pool.map(errand.get, [*(file.number for some in wrong for file in some), *big]))
    # A pod without Python tells no CRC32: they are taken from what has arrived.
    return [
        file if "parts" in file else {**hash_file(str(place.dest / name), PART_SIZE, False)[0], "path": name}
        for file, name in zip(files, names, strict=True)
    ]


class _Errand:
    """Files of a pod on their way to their places, by their numbers."""

    def __init__(self, transport: Transport, files: Sequence[Mapping[str, Any]], place: _Place, stage: Staging, tally: ByteCounter) -> None:
        self._transport, self._place, self._stage, self._tally = transport, place, stage, tally
        self._files = [StreamedFile(str(file["source"]), int(file["size"]), str(file["sha256"]), n) for n, file in enumerate(files)]
        self._paths = [place.dest / str(file["path"]) for file in files]
        self._here: dict[int, str | None] = {}

    def missing(self, pool: Executor) -> tuple[list[StreamedFile], list[int]]:
        """Return which files have not arrived yet: those that can share a stream, and the numbers of the others."""
        looks = dict(zip(self._files, pool.map(self._look, self._files), strict=True))
        self._put([file for file, where in looks.items() if where == "part"])
        absent = [file for file, where in looks.items() if where == "pod"]
        self._tally.add(sum(file.size for file in self._files) - sum(file.size for file in absent))
        return [file for file in absent if file.size <= SMALL], [file.number for file in absent if file.size > SMALL]

    def get_some(self, files: Sequence[StreamedFile]) -> list[StreamedFile]:
        """Fetch small files to their places in one stream; return those that did not come as they were announced."""
        arrived: list[StreamedFile] = []

        def take(file: StreamedFile, content: bytes) -> None:
            path = self._part(file)
            try:
                path.write_bytes(content)
            except OSError as error:
                raise trouble(path, error) from None
            arrived.append(file)
            self._tally.add(file.size)

        wrong = get_stream(self._transport, files, take)
        self._put(arrived)
        return wrong

    def get(self, number: int) -> None:
        """Fetch one file to its place."""
        file = self._files[number]
        try:
            transfer.get_file(self._transport, file.source, self._part(file), file.sha256, self._tally.part())
        except PodFailed as error:
            raise StoreError(error.message) from error
        self._put([file])

    def _look(self, file: StreamedFile) -> Literal["place", "part", "pod"]:
        """Say where a file lies whole: at its place, beside it since before the link was lost, or only on the pod."""
        path, part = self._paths[file.number], self._part(file)
        try:
            self._here[file.number] = sha256_of(path) if path.is_file() else None
            if self._here[file.number] == file.sha256:
                return "place"
            return "part" if file.size <= SMALL and part.is_file() and sha256_of(part) == file.sha256 else "pod"
        except OSError as error:
            raise trouble(path, error) from None

    def _part(self, file: StreamedFile) -> Path:
        return self._stage.part(file.sha256, self._paths[file.number])

    def _put(self, files: Sequence[StreamedFile]) -> None:
        try:
            for file in files:
                if (here := self._here[file.number]) is not None:
                    self._place.move(self._paths[file.number], here)
            self._stage.place_all([(self._part(file), self._paths[file.number]) for file in files])
        except OSError as error:
            raise trouble(self._place.dest, error) from None
