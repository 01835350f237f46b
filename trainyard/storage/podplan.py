"""What a pod needs to commit alone: signed URLs for one tar and one marker, and the secret that no training knows.

The upload is opened with the store's own keys, and the sha256 of the secret becomes metadata of the tar: no URL of the plan can
change it. A marker that tells the secret was therefore made by whoever holds the plan, and any machine with the bucket can tell.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainyard.errors import StoreError
from trainyard.pod.podprogram import pod_program
from trainyard.storage.absent import absence
from trainyard.storage.answers import store_errors
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.manifest import PART_SIZE, RESERVED, ResultKey
from trainyard.storage.objects import drop, drop_uploads, open_uploads, signed_headers
from trainyard.storage.signing import LONGEST, signed_url

SESSION = 3600
"""Seconds that a session's keys may be counted on."""
PROOF, TOKEN = "trainyard-proof", "trainyard-token"
"""Metadata of the tar: sha256 of the plan's secret, and the run's token."""
_FEWEST, _MOST = 64, 2000
_AHEAD = 128 << 20


@dataclass(frozen=True, slots=True)
class PodOrder:
    """What the pod is to commit: an output folder, by the rules of the run's recipe. ``silence``: seconds without a controller."""

    where: ResultKey
    token: str
    secret: str
    root: str
    outputs: Sequence[str]
    excludes: Sequence[str]
    checkpoints: str | None
    checkpoint_mark: str | None
    exit_codes: Sequence[int]
    stopped: Sequence[int]
    logs: Mapping[str, str]
    silence: float


def secret_of(settings: StoreSettings, where: ResultKey, token: str) -> str:
    """Return the secret of an attempt: every machine with the bucket's own keys knows it, and no other can find them by it."""
    text = f"commits alone\n{settings.bucket}\n{where}\n{token}"
    return hmac.new(settings.secret_key.reveal().encode(), text.encode(), "sha256").hexdigest()


def url_count(disk: int) -> int:
    """Return for how many parts URLs are signed where a disk holds so many bytes (0: not known); the pod chooses the parts' size."""
    return max(_FEWEST, min(_MOST, disk // _AHEAD + 1)) if disk else _MOST


def open_plan(
    settings: StoreSettings, order: PodOrder, end: float | None, disk: int, upload: str | None = None
) -> tuple[dict[str, Any], float]:
    """Return a plan that the pod's watchdog takes, and until when (epoch seconds) its URLs live.

    ``end`` is the end of the lease. ``upload`` is the one of an earlier plan: it is gone on with while it is open. Raises StoreError.
    """
    settings = probed(settings)
    upload = _upload(settings, order, upload)
    now = time.time()
    seconds = LONGEST if end is None else int(max(60.0, min(LONGEST, end - now)))
    # URLs die with the session whose keys have signed them, and not every session tells its end.
    session = settings.keys_end or (now + SESSION if settings.session_token else now + seconds)
    until = min(now + seconds, session)
    plan = {
        "program": [(name, text.decode()) for name, text in pod_program("alone").modules],
        "upload": upload,
        "urls": _urls(settings, order.where, upload, url_count(disk), seconds),
        "attempt": str(order.where),
        "token": order.token,
        "root": order.root,
        "outputs": list(order.outputs),
        "excludes": list(order.excludes),
        "checkpoints": {"pattern": order.checkpoints, "mark": order.checkpoint_mark} if order.checkpoints else None,
        "exit_codes": list(order.exit_codes),
        "stopped": list(order.stopped),
        "logs": dict(order.logs),
        "reserved": sorted(RESERVED),
        "part_size": PART_SIZE,
        "md5": settings.checksums == "none",
        "silence": order.silence,
    }
    return plan, until


def _urls(settings: StoreSettings, where: ResultKey, upload: str, count: int, seconds: int) -> dict[str, Any]:
    once = {"IfNoneMatch": "*"} if settings.conditional else {}
    put = _sign(settings, "put_object", where.pod_committed, seconds, **once)
    numbers = range(1, count + 1)
    return {
        "parts": [_sign(settings, "upload_part", where.pod_tar, seconds, UploadId=upload, PartNumber=number) for number in numbers],
        "complete": _sign(settings, "complete_multipart_upload", where.pod_tar, seconds, UploadId=upload),
        "head": _sign(settings, "head_object", where.pod_tar, seconds),
        "get": _sign(settings, "get_object", where.pod_tar, seconds),
        "marker": {"put": put, "headers": signed_headers(put, once), "get": _sign(settings, "get_object", where.pod_committed, seconds)},
        "sealed": [_sign(settings, "get_object", key, seconds) for key in (where.success, where.kept)],
    }


def remove_pod_commit(settings: StoreSettings, where: ResultKey) -> None:
    """Remove what a pod has sent alone, once the attempt has its result: no pod can send more, the tar goes, then the marker.

    A crash between them leaves a marker beside a result that counts, and so does a store that refuses it: it does no harm.
    """
    if not settings.presign:
        return  # no plan could be signed
    with contextlib.suppress(StoreError):
        drop_uploads(settings, where.pod_tar)
        for key in (where.pod_tar, where.pod_committed):
            _remove(settings, key)


def _remove(settings: StoreSettings, key: str) -> None:
    with absence(settings, f"look at {settings.url}/{key}") as refusal:
        version = s3(settings).head_object(Bucket=settings.bucket, Key=key).get("VersionId")
    if refusal:
        return
    # In a bucket with versions the tar would be paid for until a rule removes it.
    one = {"VersionId": version} if version and version != "null" else {}
    with store_errors(f"remove {settings.url}/{key}", 404):
        s3(settings).delete_object(Bucket=settings.bucket, Key=key, **one)


def _upload(settings: StoreSettings, order: PodOrder, before: str | None) -> str:
    """Return the open upload of an earlier plan, else a new one, the only one then."""
    where = order.where
    for other in open_uploads(settings, where.pod_tar):
        if other.upload_id == before:
            return before
        drop(settings, other.key, other.upload_id)
    metadata = {PROOF: hashlib.sha256(order.secret.encode()).hexdigest(), TOKEN: order.token}
    with store_errors(f"begin an upload of {settings.url}/{where.pod_tar}"):
        return str(s3(settings).create_multipart_upload(Bucket=settings.bucket, Key=where.pod_tar, Metadata=metadata)["UploadId"])


def _sign(settings: StoreSettings, method: str, key: str, seconds: int, **more: Any) -> str:
    # Unbound: what a training will leave nobody knows yet. The pod's own hashes, the store's and the seal's prove the bytes.
    signer = replace(settings, urls_until=time.time() + seconds)
    return signed_url(signer, method, {"Bucket": settings.bucket, "Key": key, **more})
