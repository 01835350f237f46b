"""Commit a result: the pod sends, the controller proves, and only ``_SUCCESS`` makes it count.

freeze -> scan on the pod -> manifest -> bound requests -> Complete -> HEAD and sampled read-back -> manifest
object -> sync -> ``_SUCCESS``. Every step may be repeated, by this controller or another one, after a crash at
any point: what is proven in the bucket is skipped, what is open is gone on with.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.errors import ForeignResult, PodCannotUpload, StoreError
from trainyard.remote.protocol import Transport
from trainyard.storage import bare, local, mounted, podside
from trainyard.storage.bucket import listing
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import DeliveryPatience, OfPod, OnProgress, Progress, deliver, silent
from trainyard.storage.ending import Ending
from trainyard.storage.manifest import KEPT, PART_SIZE, RESERVED, SUCCESS, Keep, LeftOut, Manifest, ResultKey, entry_of
from trainyard.storage.markers import refuse_foreign
from trainyard.storage.objects import UploadTarget, drop_below
from trainyard.storage.podplan import remove_pod_commit
from trainyard.storage.seal import SealedResult, put_proven, read_result, seal
from trainyard.storage.versions import keeps_versions, remove, versions

SCANS = 5
HASHED_BY_SCAN = 1 << 20
"""Files up to this size (bytes) are hashed by the scan, which reads them in any case; bigger ones while they are sent."""
PATIENCE = DeliveryPatience()


@dataclass(frozen=True, slots=True)
class Committed:
    """A result that counts."""

    s3_url: str
    s3_key: str
    logs_url: str
    manifest_sha256: str
    files: int
    bytes: int
    left_out: tuple[LeftOut, ...]
    already: bool = False
    ending: Ending | None = None
    """How the training ended when this is no success."""
    pod_time: str | None = None
    """When the pod had committed it alone, as UTC text."""


@dataclass(frozen=True, slots=True)
class _CommitOrder:
    """What is committed as which attempt; see commit()."""

    where: ResultKey
    root: str
    outputs: Sequence[str]
    excludes: Sequence[str]
    token: str
    keep: Keep | None
    logs: Mapping[str, str]
    part_size: int
    volume: str | None
    known: podside.ScannedFiles | None


def commit(
    settings: StoreSettings,
    transport: Transport,
    where: ResultKey,
    output_dir: str,
    outputs: Sequence[str],
    excludes: Sequence[str] = (),
    *,
    token: str = "",
    keep: Keep | None = None,
    logs: Mapping[str, str] | None = None,
    on_progress: OnProgress = silent,
    part_size: int = PART_SIZE,
    patience: DeliveryPatience = PATIENCE,
    volume: str | None = None,
    known: podside.ScannedFiles | None = None,
) -> Committed:
    """Commit the output folder of a pod as the result of an attempt; safe to call again until it returns.

    ``volume`` is where the bucket is mounted on the pod, for a store that signs no URLs (see mounted.py); ``known`` are
    files that went ahead (ahead.py): what has not changed since is not hashed again.
    ``logs`` maps names below the logs folder to files on the pod (default: those of the job and the bundle).
    ``token`` is the run's: it stands in manifest and marker, and what bears another one is not touched.
    ``keep``: the training was no success. Its outputs, without excludes, and its newest checkpoint are committed under
    ``_KEPT``; none of them need be there, and what is still being written is left out.
    Raises PodCannotUpload when only the way over SSH is left, ForeignResult when another run's result lies there,
    StoreError when the store fails or lies.
    """
    logs, excludes = default_logs(output_dir) if logs is None else logs, () if keep else excludes
    order = _CommitOrder(where, output_dir.rstrip("/"), outputs, excludes, token, keep, logs, part_size, _mount(settings, volume), known)
    for last in (False, False, True):
        try:
            return _commit(settings, transport, order, on_progress, patience)
        except ForeignResult:
            raise
        except StoreError:
            # The local server can be killed like any process; its next start goes on where it was.
            if last or not local.revive(settings):
                raise
    raise AssertionError("unreachable")


def _mount(settings: StoreSettings, volume: str | None) -> str | None:
    """Return where the pod copies to, None where it sends to signed URLs; raises PodCannotUpload when it can do neither."""
    if settings.presign:
        return None
    if not volume:
        raise PodCannotUpload(
            f"{settings.kind}'s S3 knows no presigned URLs, and no network volume is mounted in the pod (setting "
            f"'volume: {settings.bucket}' would mount the bucket): the result goes over SSH"
        )
    return volume


def _commit(
    settings: StoreSettings, transport: Transport, order: _CommitOrder, on_progress: OnProgress, patience: DeliveryPatience
) -> Committed:
    settings, where, keep = probed(settings), order.where, order.keep
    refuse_foreign(settings, where, order.token)
    done = committed(settings, where, order.token)
    if done is not None and (done.ending is None or keep is not None):
        return _tidied(settings, where, done)
    pod = podside.FinishedPod(transport, order.root)
    # Into a mounted bucket nothing is sent by the part: no MD5 of parts is needed.
    store = settings if order.volume is None else None
    scan = frozen_scan(
        pod, order.outputs, order.excludes, keep, order.logs, store, order.part_size, on_progress, patience.pause, order.known,
    )  # fmt: skip
    targets = result_targets(where, scan) + log_targets(where, scan)
    if order.volume is None:
        scan = with_hashes(scan, deliver(settings, OfPod(pod), targets, on_progress, patience))
    else:
        mounted.deliver(settings, pod, targets, order.volume, on_progress, patience)
    for entry in scan["extra"]:
        if "inline" in entry:
            put_proven(settings, where.logs + entry["name"], base64.b64decode(entry["inline"]))
    manifest = manifest_of(where, order.token, scan, {posixpath.relpath(e["path"], pod.root) for e in scan["extra"]})
    ending = ending_of(keep, scan)
    on_progress(Progress("seal", manifest.size, manifest.size, f"writing manifest and {KEPT if ending else SUCCESS}"))
    refuse_foreign(settings, where, order.token)  # what came while we sent must not be written over either
    if order.volume is None:
        remove_strays(settings, manifest, on_progress)
    digest = seal(settings, manifest, ending)
    podside.mark_safe(pod, digest)
    return _tidied(settings, where, answer(settings, SealedResult(manifest, digest, ending), already=False))


def _tidied(settings: StoreSettings, where: ResultKey, done: Committed) -> Committed:
    """Leave nothing beside the result: no open upload of whoever sealed it and died then, nothing that the pod sent alone meanwhile."""
    drop_open(settings, where)
    remove_pod_commit(settings, where)
    return done


def remove_strays(settings: StoreSettings, manifest: Manifest, on_progress: OnProgress) -> None:
    """Remove what went ahead and is not part of the result after all; a key that may not do it is no reason to lose the result."""
    where = manifest.key
    names = {where.prefix + entry.path for entry in manifest.files} | {where.prefix + name for name in RESERVED}
    try:
        strays = [item.key for item in listing(settings, where.prefix) if item.key not in names]
        if not strays:
            return
        kept = keeps_versions(settings)
        problems = remove(settings, (one for key in strays for one in versions(settings, key, versioned=kept) if one.key == key))
    except StoreError as error:
        problems = {where.prefix: error.message}
    for key, why in sorted(problems.items())[:1]:
        on_progress(Progress("seal", manifest.size, manifest.size, f"files beside the result may stay in the bucket ({key}: {why})"))


def committed(settings: StoreSettings, where: ResultKey, token: str = "") -> Committed | None:
    """Return this run's result of an attempt if it counts and each of its files is proven to be in the bucket."""
    result = read_result(settings, where, prove=True)
    return answer(settings, result, already=True) if result and result.manifest.token == token else None


def drop_open(settings: StoreSettings, where: ResultKey) -> int:
    """Abort the open uploads of an attempt, whoever left them there, and return how many there were."""
    return sum(drop_below(settings, prefix) for prefix in (where.prefix, where.logs, where.checkpoints))


def default_logs(output_dir: str) -> dict[str, str]:
    """Return the logs of a pod by the names they get in the bucket."""
    workspace = posixpath.dirname(output_dir.rstrip("/"))
    return {
        "train.log": f"{workspace}/job/log",
        "metrics.jsonl": f"{output_dir}/metrics.jsonl",
        "status.json": f"{output_dir}/status.json",
        "config.json": f"{workspace}/run/config.json",
    }


def frozen_scan(
    pod: podside.FinishedPod,
    outputs: Sequence[str],
    excludes: Sequence[str],
    keep: Keep | None,
    extra: Mapping[str, str],
    settings: StoreSettings | None,
    part_size: int,
    on_progress: OnProgress,
    pause: Callable[[float], None],
    known: podside.ScannedFiles | None = None,
) -> Mapping[str, Any]:
    """Scan until nothing changes any more; raises StoreError when it is still being written, or holds no file of the result.

    With the ``settings`` of a store to send to, big files get their sha256 while they are sent.
    """
    md5 = settings is not None and settings.checksums == "none"
    up_to = HASHED_BY_SCAN if settings else None
    for round_ in range(SCANS):
        last = round_ + 1 == SCANS
        on_progress(Progress("scan", 0, 0, "hashing the output on the pod"))
        scan = podside.scan(pod, outputs, excludes, extra, keep=keep, md5=md5, part_size=part_size, sha256_up_to=up_to, known=known)
        # What a moment's fault hides is asked for again; a file that nobody may read is named.
        if not scan["changed"] and (last or not any(e["passing"] for e in scan["unreadable"])):
            if keep is None:
                _need_files(pod, scan, outputs)
            return scan
        if not last:
            pause(2.0 * (round_ + 1))
    if keep is not None:
        return _without_changed(scan)
    names = ", ".join(f"{entry['path']} ({entry['why']})" for entry in scan["changed"][:5])
    raise StoreError(f"the output is still being written, nothing was committed: {names}")


def ending_of(keep: Keep | None, scan: Mapping[str, Any]) -> Ending | None:
    """Return how the training ended, with the checkpoints that the scan has chosen; None for a success."""
    return Ending(keep.why, keep.exit_code, tuple(scan.get("checkpoints", ()))) if keep else None


def _without_changed(scan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out what is still being written: the rest of what a training left must not be lost for it."""
    changed = {entry["path"] for entry in scan["changed"]}
    sizes = {entry["path"]: entry["size"] for entry in scan["files"]}
    left = [
        {"path": e["path"], "size": sizes.get(e["path"], 0), "why": f"still being written: {e['why']}", "wanted": True}
        for e in scan["changed"]
    ]  # fmt: skip
    return {
        **scan,
        "files": [e for e in scan["files"] if e["path"] not in changed],
        "left_out": [*scan["left_out"], *left],
        "changed": [],
    }


def with_hashes(scan: Mapping[str, Any], hashes: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a scan with the sha256 of the files that were hashed while they were sent, by their place."""
    return {**scan, "files": [{**entry, "sha256": entry["sha256"] or hashes[entry["source"]]} for entry in scan["files"]]}


def manifest_of(where: ResultKey, token: str, scan: Mapping[str, Any], delivered: set[str]) -> Manifest:
    """Return the manifest of a scan; files that are ``delivered`` as logs are not called left out."""
    left_out = [LeftOut(e["path"], e["size"], e["why"], e["wanted"]) for e in (*scan["left_out"], *scan["unreadable"])]
    kept = sorted((e for e in left_out if e.path not in delivered), key=lambda e: e.path)
    return Manifest(where, tuple(entry_of(e) for e in scan["files"]), tuple(kept), token)


def result_targets(where: ResultKey, scan: Mapping[str, Any]) -> list[UploadTarget]:
    """Return the files of the result with their keys."""
    return [
        UploadTarget(entry_of(e), e["source"], where.prefix + e["path"], tuple(e.get("md5", ())))
        for e in scan["files"]
    ]  # fmt: skip


def log_targets(where: ResultKey, scan: Mapping[str, Any]) -> list[UploadTarget]:
    """Return the logs that are too long to travel in the scan, with their keys."""
    return [
        UploadTarget(entry_of(e, e["name"]), e["path"], where.logs + e["name"], tuple(e.get("md5", ())))
        for e in scan["extra"] if "inline" not in e
    ]  # fmt: skip


def _need_files(pod: podside.FinishedPod, scan: Mapping[str, Any], outputs: Sequence[str]) -> None:
    """Raise StoreError when no file is taken though there are some; a training may leave nothing at all (``expect: []``)."""
    if not scan["files"] and any(e["path"] not in bare.OWN for e in (*scan["unreadable"], *scan["left_out"])):
        left = [*scan["unreadable"], *(e for e in scan["left_out"] if e["wanted"]), *(e for e in scan["left_out"] if not e["wanted"])]
        seen = ", ".join(f"{e['path']} ({e['why']})" for e in left[:5]) or "nothing"
        said = f"no file in {pod.root} matches the outputs ({', '.join(outputs)}); found: {seen}; nothing was committed"
        raise StoreError(said, hint=bare.MOVE_THEM)


def answer(settings: StoreSettings, result: SealedResult, *, already: bool) -> Committed:
    """Return what a caller is told of a result that counts."""
    manifest = result.manifest
    modelled = result.ending is None and any(entry.path.startswith("model/") for entry in manifest.files)
    key = manifest.key.model if modelled else manifest.key.prefix
    return Committed(
        f"{settings.url}/{key}",
        key,
        f"{settings.url}/{manifest.key.logs}",
        result.manifest_sha256,
        len(manifest.files),
        manifest.size,
        manifest.left_out,
        already,
        result.ending,
        result.pod_time,
    )
