"""The second way home: fetch a result over SSH, verified against the same manifest that a commit would write.

Taken when there is no bucket, or when the pod cannot send to it. Nothing of the pod's word is trusted but the
manifest it made before the first byte was sent: each file must arrive with the sha256 named there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import PodCannotUpload, PodFailed, StoreError
from trainyard.files import sha256_of, write_atomic
from trainyard.pod import uploader
from trainyard.remote import transfer
from trainyard.remote.protocol import Transport
from trainyard.storage import bare, podside
from trainyard.storage.commit import ending_of, frozen_scan, manifest_of
from trainyard.storage.deliver import OnProgress, Progress, silent
from trainyard.storage.ending import Ending
from trainyard.storage.manifest import KEPT, MANIFEST, PART_SIZE, Keep, LeftOut, ResultKey, marker_body, sha256
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
    on_progress: OnProgress = silent,
    pause: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Fetch the output folder of a pod; safe to call again: what is here with the right hash is not sent twice.

    With ``keep`` what a training left that was no success, as commit() keeps it; ``_KEPT`` beside it says so.
    Raises StoreError when a file does not arrive as the manifest says, Unreachable when the link is lost.
    """
    pod = podside.FinishedPod(transport, output_dir.rstrip("/"))
    excludes = () if keep else excludes
    try:
        scan = frozen_scan(pod, outputs, excludes, keep, {}, None, PART_SIZE, on_progress, pause)
    except PodCannotUpload:
        scan = bare.listed(transport, pod.root, outputs, excludes, keep)
    arrived = _fetch_all(transport, scan["files"], dest, on_progress)
    manifest = manifest_of(where, token, {**scan, "files": arrived}, set())
    body, ending = manifest.encode(), ending_of(keep, scan)
    _keep(dest / MANIFEST, body)
    if ending:
        _keep(dest / KEPT, marker_body(sha256(body), manifest, ending))
    podside.mark_safe(pod, sha256(body))
    return Fetched(dest, sha256(body), len(manifest.files), manifest.size, manifest.left_out, ending)


def _keep(path: Path, body: bytes) -> None:
    draft = path.parent.with_name(f".{path.parent.name}{path.name}.new")  # beside the result: inside it may be anybody's name
    try:
        write_atomic(path, body, durable=True, draft=draft)
    except OSError as error:
        raise trouble(path, error) from None


def _fetch_all(transport: Transport, files: Sequence[Mapping[str, Any]], dest: Path, on_progress: OnProgress) -> list[Mapping[str, Any]]:
    total, done, lock = sum(int(file["size"]) for file in files), 0, threading.Lock()

    def get(file: Mapping[str, Any], stage: Staging) -> Mapping[str, Any]:
        nonlocal done
        before = 0

        def moved(now: int, _: int) -> None:
            nonlocal done, before
            with lock:
                done, before = done + now - before, now
                on_progress(Progress("fetch", done, total, "fetching the result over SSH"))

        path = dest / str(file["path"])
        piece = _get(transport, file, path, stage, moved)
        # A pod without Python tells no CRC32: they are taken from what has arrived.
        return file if "parts" in file else {**uploader.hash_file(str(piece), PART_SIZE, False)[0], "path": file["path"]}

    def waiting(text: str) -> None:
        on_progress(Progress("wait", 0, total, text))

    with staging(dest, [str(file["path"]) for file in files], waiting) as stage, ThreadPoolExecutor(CHANNELS) as pool:
        return list(pool.map(lambda file: get(file, stage), files))


def _get(transport: Transport, file: Mapping[str, Any], path: Path, stage: Staging, moved: Callable[[int, int], None]) -> Path:
    """Fetch one file to its place, unless it is there; returns the place."""
    digest, part = str(file["sha256"]), stage.part(str(file["sha256"]), path)
    try:
        if path.is_file() and path.stat().st_size == int(file["size"]) and sha256_of(path) == digest:
            moved(int(file["size"]), 0)
            return path
        transfer.get_file(transport, str(file["source"]), part, digest, moved)
        stage.place(part, path)
    except PodFailed as error:
        raise StoreError(error.message) from error
    except OSError as error:
        raise trouble(path, error) from None
    return path
