"""What a bucket is tried for before anything is rented, as a table: with which right, what rests on it, what is lost without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BucketAction:
    """One thing a bucket is tried for. An empty ``without``: no result can be committed without it."""

    name: str
    right: str
    use: str
    without: str = ""


_LISTLESS = "attempts are found by trying their numbers; results, gc, verify and store.delete need it"
_STAYS = "old checkpoints and the canary's own objects stay below tmp/ until a rule expires them"
_BY_HAND = "the pod cannot send by itself: results go over SSH or a mounted volume"
ACTIONS: Mapping[str, BucketAction] = {
    action.name: action
    for action in (
        BucketAction("list", "s3:ListBucket", "attempts and results are found by name", _LISTLESS),
        BucketAction("put", "s3:PutObject", "claims, manifests and markers are written"),
        BucketAction("head", "s3:GetObject", "size and checksum of an object are told"),
        BucketAction("get", "s3:GetObject", "any range of an object reads back"),
        BucketAction("absent", "s3:ListBucket", "what is not there is said to be absent", "a 403 is taken for 'absent' on proof alone"),
        BucketAction(
            "conditional write", "s3:PutObject", "one machine alone claims an attempt", "two could at once; the commit looks again"
        ),
        BucketAction("wrong bytes", "s3:PutObject", "damage on the way is refused", "damage on the way is found by samples only"),
        BucketAction("signed URL", "s3:PutObject", "a pod sends its part without any key", _BY_HAND),
        BucketAction("multipart", "s3:PutObject", "large files go up in parts"),
        BucketAction("list parts", "s3:ListMultipartUploadParts", "an upload that was cut goes on"),
        BucketAction("complete", "s3:PutObject", "an object appears whole or not at all"),
        BucketAction("proof", "s3:GetObject", "what was completed is there, with its checksum"),
        BucketAction(
            "list uploads", "s3:ListBucketMultipartUploads", "what a killed controller left is found", "it is not seen, and begun again"
        ),
        BucketAction("abort", "s3:AbortMultipartUpload", "what is not wanted any more costs nothing"),
        BucketAction("delete", "s3:DeleteObject", "old checkpoints go", _STAYS),
    )
}
