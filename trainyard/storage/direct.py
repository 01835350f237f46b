"""The second way home: fetch a result over SSH, verified against the same manifest that a commit would write.

Taken when there is no bucket, or when the pod cannot send to it. Nothing of the pod's word is trusted but the
manifest it made before the first byte was sent: each file must arrive with the sha256 named there.
"""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import PodCannotUpload, PodFailed, StoreError
from trainyard.pod import uploader
from trainyard.remote import transfer
from trainyard.remote.protocol import Transport
from trainyard.storage import podside
from trainyard.storage.commit import frozen_scan, manifest_of
from trainyard.storage.deliver import OnProgress, Progress, silent
from trainyard.storage.manifest import MANIFEST, PART_SIZE, Entry, Manifest, ResultKey, entry_of, safe_path, sha256

CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result that lies on this machine, as ``path``/model/... with its manifest beside it."""

    path: Path
    manifest_sha256: str
    files: int
    bytes: int
    left_out: tuple[tuple[str, int], ...]


def fetch(
    transport: Transport,
    where: ResultKey,
    output_dir: str,
    outputs: Sequence[str],
    excludes: Sequence[str],
    dest: Path,
    *,
    on_progress: OnProgress = silent,
    pause: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Fetch the output folder of a pod; safe to call again: what is here with the right hash is not sent twice.

    Raises StoreError when a file does not arrive as the manifest says, Unreachable when the link is lost.
    """
    pod = podside.prepare(transport, output_dir)
    try:
        found = frozen_scan(pod, outputs, excludes, {}, None, PART_SIZE, on_progress, pause)
    except PodCannotUpload:
        manifest = _without_python(transport, where, pod.root, outputs, excludes, dest)
    else:
        manifest = manifest_of(where, found, set())
        _fetch_all(transport, pod.root, manifest, dest, on_progress)
    body = manifest.encode()
    (dest / MANIFEST).write_bytes(body)
    podside.mark_safe(pod, sha256(body))
    left_out = tuple((entry.path, entry.size) for entry in manifest.left_out)
    return Fetched(dest, sha256(body), len(manifest.files), manifest.size, left_out)


def _fetch_all(transport: Transport, root: str, manifest: Manifest, dest: Path, on_progress: OnProgress) -> None:
    total, done, lock = manifest.size, 0, threading.Lock()

    def get(entry: Entry) -> None:
        nonlocal done
        before = 0

        def moved(now: int, _: int) -> None:
            nonlocal done, before
            with lock:
                done, before = done + now - before, now
                on_progress(Progress("fetch", done, total, "fetching the result over SSH"))

        if not safe_path(entry.path):
            raise StoreError(f"the pod names a file {entry.path!r}, which is not taken")
        _get(transport, posixpath.join(root, entry.path), dest / entry.path, entry.sha256, moved)

    with ThreadPoolExecutor(CHANNELS) as pool:
        list(pool.map(get, manifest.files))


def _get(transport: Transport, remote: str, local: Path, digest: str, moved: Callable[[int, int], None] | None) -> None:
    try:
        transfer.get_file(transport, remote, local, digest, moved)
    except PodFailed as error:
        raise StoreError(error.message) from error
    except OSError as error:
        hint = "What has arrived is kept: the same command goes on with it."
        raise StoreError(f"{local}: {error.strerror or error}", hint=hint) from None


def _without_python(
    transport: Transport, where: ResultKey, root: str, outputs: Sequence[str], excludes: Sequence[str], dest: Path
) -> Manifest:
    """Do with sha256sum on the pod what the scan does; CRC32s are taken from what has arrived."""
    wanted = [uploader.compile_pattern(pattern, False) for pattern in outputs]
    unwanted = [uploader.compile_pattern(pattern, True) for pattern in excludes]
    files: list[Mapping[str, Any]] = []
    left_out: list[Mapping[str, Any]] = []
    try:
        listed = transfer.list_tree(transport, root)
    except PodFailed as error:
        raise StoreError(error.message) from error
    for one in listed:
        excluded = any(pattern.match(one.path) for pattern in unwanted)
        if excluded or not any(pattern.match(one.path) for pattern in wanted):
            left_out.append({"path": one.path, "size": one.size or 0, "why": "excluded" if excluded else "no output pattern"})
            continue
        _get(transport, posixpath.join(root, one.path), dest / one.path, one.sha256, None)
        files.append({**uploader.hash_file(str(dest / one.path), PART_SIZE, False)[0], "path": one.path})
    if not files:
        raise StoreError(f"no file in {root} matches the outputs ({', '.join(outputs)})")
    return Manifest(where, tuple(entry_of(e) for e in files), manifest_of(where, {"files": [], "left_out": left_out}, set()).left_out)
