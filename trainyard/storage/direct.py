"""The second way home: fetch a result over SSH, verified against the same manifest that a commit would write.

Taken when there is no bucket, or when the pod cannot send to it. Nothing of the pod's word is trusted but the
manifest it made before the first byte was sent: each file must arrive with the sha256 named there.
"""

from __future__ import annotations

import posixpath
import re
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
from trainyard.storage.commit import ending_of, frozen_scan, manifest_of
from trainyard.storage.deliver import OnProgress, Progress, silent
from trainyard.storage.manifest import KEPT, MANIFEST, PART_SIZE, Ending, Entry, Keep, Manifest, ResultKey, marker_body, safe_path, sha256

CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result that lies on this machine, as ``path``/model/... with its manifest beside it."""

    path: Path
    manifest_sha256: str
    files: int
    bytes: int
    left_out: tuple[tuple[str, int], ...]
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
    pod = podside.prepare(transport, output_dir)
    excludes = () if keep else excludes
    try:
        found = frozen_scan(pod, outputs, excludes, keep, {}, None, PART_SIZE, on_progress, pause)
    except PodCannotUpload:
        manifest, found = _without_python(transport, where, token, pod.root, outputs, excludes, keep, dest)
    else:
        manifest = manifest_of(where, token, found, set())
        _fetch_all(transport, pod.root, manifest, dest, on_progress)
    body = manifest.encode()
    dest.mkdir(parents=True, exist_ok=True)
    (dest / MANIFEST).write_bytes(body)
    ending = ending_of(keep, found)
    if ending:
        (dest / KEPT).write_bytes(marker_body(sha256(body), manifest, ending))
    podside.mark_safe(pod, sha256(body))
    left_out = tuple((entry.path, entry.size) for entry in manifest.left_out)
    return Fetched(dest, sha256(body), len(manifest.files), manifest.size, left_out, ending)


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
    transport: Transport,
    where: ResultKey,
    token: str,
    root: str,
    outputs: Sequence[str],
    excludes: Sequence[str],
    keep: Keep | None,
    dest: Path,
) -> tuple[Manifest, Mapping[str, Any]]:
    """Do with sha256sum on the pod what the scan does; CRC32s are taken from what has arrived."""
    wanted = [uploader.compile_pattern(pattern, False) for pattern in outputs]
    unwanted = [uploader.compile_pattern(pattern, True) for pattern in excludes]
    files: list[Mapping[str, Any]] = []
    left_out: list[Mapping[str, Any]] = []
    try:
        listed = transfer.list_tree(transport, root)
    except PodFailed as error:
        raise StoreError(error.message) from error
    checkpoints = _newest_named([one.path for one in listed], keep)
    for one in listed:
        excluded = any(pattern.match(one.path) for pattern in unwanted)
        chosen = one.path.startswith(tuple(f"{path}/" for path in checkpoints))
        if excluded or not (chosen or any(pattern.match(one.path) for pattern in wanted)):
            left_out.append({"path": one.path, "size": one.size or 0, "why": "excluded" if excluded else "no output pattern"})
            continue
        _get(transport, posixpath.join(root, one.path), dest / one.path, one.sha256, None)
        files.append({**uploader.hash_file(str(dest / one.path), PART_SIZE, False)[0], "path": one.path})
    if not files and keep is None:
        raise StoreError(f"no file in {root} matches the outputs ({', '.join(outputs)})")
    found = {"files": files, "left_out": left_out, "checkpoints": checkpoints}
    return manifest_of(where, token, found, set()), found


def _newest_named(paths: Sequence[str], keep: Keep | None) -> list[str]:
    """Return the two newest checkpoints by the numbers in their names: without Python nobody tells whether one is whole."""
    if keep is None or not keep.checkpoints:
        return []
    deep, matches = keep.checkpoints.strip("/").count("/") + 1, uploader.compile_pattern(keep.checkpoints, False)
    roots = {"/".join(path.split("/")[:deep]) for path in paths if path.count("/") >= deep}
    whole = [root for root in roots if matches.match(root) and (not keep.mark or f"{root}/{keep.mark}" in paths)]
    return sorted(whole, key=lambda root: [int(number) for number in re.findall("[0-9]+", root)])[:-3:-1]
