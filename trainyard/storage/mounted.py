"""Bring files into a bucket that is a folder on the pod: RunPod's network volume, mounted where it is stored.

RunPod's S3 signs no URLs, gives no temporary keys and says 200 to uploads that are not there afterwards; but a file in the
mounted volume *is* the object. So the pod copies, and the controller, through S3, believes nothing that it has not read
back. That the mount is this bucket is proved first: what S3 has just written must be readable there.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard.errors import PodCannotUpload, StoreError
from trainyard.remote.protocol import quote
from trainyard.retries import STORE
from trainyard.storage import objects, podside
from trainyard.storage.bucket import forget
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import DeliveryPatience, OfPod, OnProgress, Progress, each, tell, wrong_samples
from trainyard.storage.objects import UploadTarget
from trainyard.storage.seal import put_proven

LOOKS = 4
"""Looks for the token on the pod: a network file system may show a new file a moment later."""


def deliver(
    settings: StoreSettings,
    pod: podside.FinishedPod,
    targets: Sequence[UploadTarget],
    volume: str,
    on_progress: OnProgress,
    patience: DeliveryPatience,
    *,
    spare: int = 0,
    nice: int = 0,
) -> None:
    """Return when every target is proven to be in the bucket. ``spare`` bytes must stay free beside what is copied.

    Raises PodCannotUpload when the folder is not this bucket, StoreError when copies fail or do not read back.
    """
    prove_mounted(settings, pod, volume, patience)
    total = sum(target.entry.size for target in targets)
    reasons: dict[str, str] = {}
    to_send = list(targets)
    for round_ in range(patience.rounds):
        if round_:
            patience.pause(STORE.pause(round_))
        done = total - sum(target.entry.size for target in to_send)
        plan = _plan(to_send, volume) | {"spare": spare, "nice": nice}
        reasons = _copy(pod, to_send, plan, lambda sent, done=done: on_progress(_progress(done + sent, total)))  # type: ignore[misc]
        on_progress(Progress("verify", total, total, "reading samples back"))
        reasons |= _unproven(settings, pod, [target for target in targets if target.key not in reasons])
        if not reasons:
            return
        to_send = [target for target in targets if target.key in reasons]
    raise StoreError(f"not committed: {tell(reasons)}", hint="What has arrived is kept: the same command goes on with it.")


def prove_mounted(settings: StoreSettings, pod: podside.FinishedPod, volume: str, patience: DeliveryPatience) -> None:
    """Prove that a folder of the pod is the bucket; raises PodCannotUpload when it is another one, or cannot be written."""
    key, token = f"tmp/mounted-{secrets.token_hex(8)}", secrets.token_bytes(64)
    put_proven(settings, key, token)
    seen = posixpath.join(volume, key)
    try:
        for look in range(LOOKS):
            if look:
                patience.pause(float(look))
            done = pod.transport.exec(f"cat {quote(seen)} && test -w {quote(posixpath.dirname(seen))}", timeout=60)
            if done.stdout == token and done.rc == 0:
                return
    finally:
        forget(settings, key)
    raise PodCannotUpload(
        f"{volume} on the pod is not {settings.url} (what its S3 has written is not there: another volume, or another data "
        f"center): the result goes over SSH"
    )


def _plan(targets: Sequence[UploadTarget], volume: str) -> dict[str, Any]:
    items = [
        {
            "id": number, "path": target.source, "dest": posixpath.join(volume, target.key),
            "size": target.entry.size, "sha256": target.entry.sha256,
        }
        for number, target in enumerate(targets)
    ]  # fmt: skip
    return {"items": items, "folder": volume}


def _copy(pod: podside.FinishedPod, targets: Sequence[UploadTarget], plan: Mapping[str, Any], on_bytes: podside.OnBytes) -> dict[str, str]:
    """Let the pod copy; returns why a target did not arrive."""
    sent = podside.copy(pod, plan, on_bytes)
    return {targets[number].key: f"{failed.get('code')}: {failed.get('message', '')}" for number, failed in sent.failed.items()}


def _unproven(settings: StoreSettings, pod: podside.FinishedPod, targets: Sequence[UploadTarget]) -> dict[str, str]:
    """Look at every object through S3, its size and samples of its bytes; return what is wrong by key."""
    # No MD5: this store computes the ETag of a file that a pod has written when it pleases.
    proofs = zip((t.key for t in targets), each(lambda t: objects.proof(settings, t), targets), strict=True)
    wrong = {key: f"S3 shows it as {state}" for key, state in proofs if state != "there"}
    there = [target for target in targets if target.key not in wrong]
    bad = wrong_samples(settings, OfPod(pod), there, len(there))
    return wrong | dict.fromkeys(bad, "what S3 gives back is not what was copied")


def _progress(done: int, total: int) -> Progress:
    return Progress("upload", done, total, "copying the result into the mounted bucket")
