"""One file becomes one object: bound requests for its bytes, Complete, and the proof that it is there.

Knows nothing of pods and manifests. A 200 from Complete proves nothing (some stores make one up for an upload
that is dead), so only ``proof`` counts: HEAD with the store's own size and checksum.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import IOBase
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from trainyard.storage.absent import absence
from trainyard.storage.answers import DENIED, store_errors
from trainyard.storage.client import StoreSettings, patient, s3
from trainyard.storage.manifest import ManifestEntry
from trainyard.storage.reader import head_at_once
from trainyard.storage.signing import signed_url

Proof = Literal["there", "absent", "other"]
# How a store says that it lists no uploads, or not to this key: what an earlier controller left open is then begun anew.
_NO_SUCH_LIST = (405, 501, *DENIED)
# How it says that it copies no ranges of objects (400: MinIO, into an upload with checksums).
_NO_COPY = (400, 405, 501, "NotImplemented", *DENIED)
# The bytes of a request are not those it was signed for: they were damaged on the way.
_DAMAGED = ("XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody")
# The answer of Complete says that this upload cannot become the object any more: start a new one.
_DEAD = ("NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "BadDigest", "InvalidRequest")


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """A file on the pod and the object it shall be. ``md5`` (of each part) only where the store knows no CRC32."""

    entry: ManifestEntry
    source: str
    key: str
    md5: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """What is left to send for one target: numbers of parts, and the open upload (None: one PUT)."""

    target: UploadTarget
    upload_id: str | None
    parts: tuple[int, ...]
    replace: bool


@dataclass(frozen=True, slots=True)
class ObjectSeen:
    """What a store holds under a key, and since when (epoch seconds)."""

    proof: Proof
    modified: float = 0.0


def proof(settings: StoreSettings, target: UploadTarget) -> Proof:
    """Ask the store what it holds under the key: the file itself, nothing, or something else."""
    return look(settings, target).proof


def look(settings: StoreSettings, target: UploadTarget) -> ObjectSeen:
    """Ask the store what it holds under the key, and how old it is."""
    settled, head = head_at_once(settings, target.key)
    if not settled:
        with absence(settings, f"look at {settings.url}/{target.key}"):
            head = s3(settings).head_object(Bucket=settings.bucket, Key=target.key, ChecksumMode="ENABLED")
    if head is None:
        return ObjectSeen("absent")
    modified = head.get("LastModified")  # an answer that was damaged on its way may lack it
    return ObjectSeen(_judge(settings, target, head), modified.timestamp() if modified else 0.0)


def _judge(settings: StoreSettings, target: UploadTarget, head: Mapping[str, Any]) -> Proof:
    if head.get("ContentLength") != target.entry.size:
        return "other"
    # Who has not tried the store does not know whether it keeps checksums: where it tells none, it may have none of any object.
    untold = settings.checksums == "probe" and not (head.get("ChecksumCRC32") or head.get("ChecksumSHA256"))
    if settings.checksums == "none" or untold:
        # One part is mostly one PUT; a multipart upload of one part gets the other form.
        same = not target.md5 or str(head.get("ETag")).strip('"') in (etag(target.md5), _parts_etag(target.md5))
    else:
        same = head.get("ChecksumCRC32") in (target.entry.crc32, target.entry.composite)
        same = same or (bool(target.entry.sha256) and head.get("ChecksumSHA256") == sha256_text(target.entry))
    return "there" if same else "other"


def etag(md5: tuple[str, ...]) -> str:
    """Return the ETag that a store without checksum headers gives: MD5, or MD5 of MD5s and the number of parts."""
    if len(md5) == 1:
        return md5[0]
    return _parts_etag(md5)


def _parts_etag(md5: tuple[str, ...]) -> str:
    return f"{hashlib.md5(b''.join(bytes.fromhex(one) for one in md5)).hexdigest()}-{len(md5)}"


def open_work(settings: StoreSettings, target: UploadTarget, *, replace: bool) -> PendingUpload:
    """Return what is left to send, going on with an upload that an earlier controller left open."""
    if len(target.entry.parts) == 1:
        return PendingUpload(target, None, (1,), replace)
    best: tuple[str, set[int]] | None = None
    for upload_id in _open_uploads(settings, target.key):
        have = set(stored_parts(settings, target, upload_id))
        if best is None or len(have) > len(best[1]):
            best = (upload_id, have)
    if best is None or not best[1]:
        best = (begin(settings, target.key), set())
    missing = tuple(n for n in range(1, len(target.entry.parts) + 1) if n not in best[1])
    return PendingUpload(target, best[0], missing, replace)


def requests(settings: StoreSettings, work: PendingUpload, first_id: int) -> list[dict[str, Any]]:
    """Return one bound request (URL and headers) for each part that is left to send."""
    return [_request(settings, work, number, first_id + i) for i, number in enumerate(work.parts)]


def complete(settings: StoreSettings, work: PendingUpload) -> None:
    """Make an upload visible whose parts the store lists with our checksums; what is missing is found by ``proof``."""
    with store_errors(f"complete {settings.url}/{work.target.key}", 409, 412, *_DEAD):
        demand_complete(settings, work)


def demand_complete(settings: StoreSettings, work: PendingUpload) -> None:
    """Like complete(), with every refusal of the store's as the client raises it."""
    assert work.upload_id is not None
    entry = work.target.entry
    have = stored_parts(settings, work.target, work.upload_id)
    if set(have) != set(range(1, len(entry.parts) + 1)):
        return
    parts, options = [], _complete_options(settings, work)
    for number in sorted(have):
        part: dict[str, Any] = {"PartNumber": number, "ETag": have[number]}
        if settings.checksums != "none":
            part["ChecksumCRC32"] = entry.parts[number - 1]
        parts.append(part)
    patient(settings).complete_multipart_upload(
        Bucket=settings.bucket, Key=work.target.key, UploadId=work.upload_id, MultipartUpload={"Parts": parts}, **options
    )


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that was begun and neither completed nor aborted: its parts hold space that no listing shows."""

    key: str
    upload_id: str
    begun: float
    bytes: int


def open_uploads(settings: StoreSettings, prefix: str = "") -> list[OpenUpload]:
    """Return the open uploads below a prefix with the size of their parts; none where the store has no such list."""
    uploads = []
    once = {(str(upload["Key"]), str(upload["UploadId"])): upload.get("Initiated") for upload in _listed(settings, prefix)}
    for (key, upload_id), begun in once.items():  # Ceph lists one twice now and then
        size = sum(int(part["Size"]) for part in _parts(settings, key, upload_id))
        uploads.append(OpenUpload(key, upload_id, begun.timestamp() if begun else 0.0, size))
    return uploads


def may_list_uploads(settings: StoreSettings) -> bool:
    """Tell whether open uploads can be seen: False where this key may not, or the store has no such list."""
    with store_errors(f"list uploads of {settings.url}", *_NO_SUCH_LIST) as refusal:
        s3(settings).list_multipart_uploads(Bucket=settings.bucket, MaxUploads=1)
    return not refusal


def drop_below(settings: StoreSettings, prefix: str) -> int:
    """Abort every open upload below a prefix, and return how many there were."""
    dropped = 0
    # List, abort, list again: some stores cannot be asked for a second page.
    while uploads := _first_page(settings, prefix):
        for upload in uploads:
            drop(settings, str(upload["Key"]), str(upload["UploadId"]))
        dropped += len(uploads)
    return dropped


def drop_uploads(settings: StoreSettings, key: str) -> None:
    """Abort all open uploads of a key: their parts hold space that nobody sees."""
    for upload_id in _open_uploads(settings, key):
        drop(settings, key, upload_id)


def drop(settings: StoreSettings, key: str, upload_id: str) -> None:
    """Abort one upload; one that is gone is fine."""
    with store_errors(f"abort an upload of {settings.url}/{key}", 404):
        s3(settings).abort_multipart_upload(Bucket=settings.bucket, Key=key, UploadId=upload_id)


def _open_uploads(settings: StoreSettings, key: str) -> list[str]:
    return [str(upload["UploadId"]) for upload in _page(settings, key) if upload["Key"] == key]


def _first_page(settings: StoreSettings, prefix: str, after: str = "") -> list[Mapping[str, Any]]:
    page = _page(settings, prefix, after)
    if not page and prefix and settings.kind == "s3":
        # MinIO lists by a whole key, or all of a bucket; by the beginning of a key it finds nothing.
        page = [upload for upload in _page(settings, "", after, 403) if str(upload["Key"]).startswith(prefix)]
    return page


def _page(settings: StoreSettings, prefix: str, after: str = "", *accepted: int) -> list[Mapping[str, Any]]:
    more = {"KeyMarker": after} if after else {}
    with store_errors(f"list uploads of {settings.url}/{prefix}", *_NO_SUCH_LIST, *accepted) as refusal:
        page = s3(settings).list_multipart_uploads(Bucket=settings.bucket, Prefix=prefix, **more)
    return [] if refusal else list(page.get("Uploads", []))


def _listed(settings: StoreSettings, prefix: str) -> Iterator[Mapping[str, Any]]:
    # Pages by the key alone: the pair of markers is refused by some. More than a page of one key is a page of it.
    last = ""
    while page := _first_page(settings, prefix, last):
        yield from page
        if str(page[-1]["Key"]) == last:
            return
        last = str(page[-1]["Key"])


def begin(settings: StoreSettings, key: str) -> str:
    """Begin a multipart upload with the checksums that the store keeps, and return its id."""
    options: dict[str, Any] = {}
    if settings.checksums != "none":
        options["ChecksumAlgorithm"] = "CRC32"
    if settings.checksums == "full":
        options["ChecksumType"] = "FULL_OBJECT"
    with store_errors(f"begin an upload of {settings.url}/{key}"):
        return str(s3(settings).create_multipart_upload(Bucket=settings.bucket, Key=key, **options)["UploadId"])


def stored_parts(settings: StoreSettings, target: UploadTarget, upload_id: str) -> dict[int, str]:
    """Return number and ETag of the parts that the store holds exactly as they must be."""
    parts = _parts(settings, target.key, upload_id)
    return {int(part["PartNumber"]): str(part["ETag"]) for part in parts if _part_is_right(settings, target, part)}


def _parts(settings: StoreSettings, key: str, upload_id: str) -> Iterator[Mapping[str, Any]]:
    marker = 0
    while True:
        with store_errors(f"list parts of {settings.url}/{key}", 404) as refusal:
            page = s3(settings).list_parts(Bucket=settings.bucket, Key=key, UploadId=upload_id, PartNumberMarker=marker)
        if refusal:
            return
        yield from page.get("Parts", [])
        following = int(page.get("NextPartNumberMarker") or 0)
        if not page.get("IsTruncated") or following <= marker:
            return
        marker = following


def _part_is_right(settings: StoreSettings, target: UploadTarget, part: Mapping[str, Any]) -> bool:
    number = int(part["PartNumber"])
    if number > len(target.entry.parts) or int(part["Size"]) != target.entry.part(number)[1]:
        return False
    if settings.checksums == "none":
        return bool(target.md5) and str(part["ETag"]).strip('"') == target.md5[number - 1]
    return part.get("ChecksumCRC32") == target.entry.parts[number - 1]


def _complete_options(settings: StoreSettings, work: PendingUpload) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if settings.checksums == "full":
        options = {"ChecksumCRC32": work.target.entry.crc32, "ChecksumType": "FULL_OBJECT", "MpuObjectSize": work.target.entry.size}
    # Of R2 a condition on Complete is not documented; there the proof alone decides.
    if settings.conditional and not work.replace and settings.kind != "r2":
        options["IfNoneMatch"] = "*"
    return options


def put_part(settings: StoreSettings, work: PendingUpload, number: int, body: bytes | IOBase) -> None:
    """Send a part (or the whole of a small file) from this machine; what came of it is found by ``proof``."""
    method, bound = _bound(settings, work, number)
    with store_errors(f"write {settings.url}/{work.target.key}", 409, 412, *_DEAD, *_DAMAGED):
        getattr(s3(settings), method)(**bound, Body=body)


def copy_part(settings: StoreSettings, work: PendingUpload, number: int, source: str, start: int) -> bool:
    """Let the store make a part from a range of another object; False where what it made is not the part, or it makes none."""
    entry, key = work.target.entry, work.target.key
    last = start + entry.part(number)[1] - 1
    with store_errors(f"copy {settings.url}/{source} to {key}", *_NO_COPY, *_DEAD) as refusal:
        copied = s3(settings).upload_part_copy(
            Bucket=settings.bucket, Key=key, UploadId=work.upload_id, PartNumber=number,
            CopySource={"Bucket": settings.bucket, "Key": source}, CopySourceRange=f"bytes={start}-{last}",
        )["CopyPartResult"]  # fmt: skip
    if refusal:
        return False
    if settings.checksums == "none":
        return bool(work.target.md5) and str(copied.get("ETag")).strip('"') == work.target.md5[number - 1]
    return bool(copied.get("ChecksumCRC32") == entry.parts[number - 1])


def _bound(settings: StoreSettings, work: PendingUpload, number: int) -> tuple[str, dict[str, Any]]:
    """Return the call that sends a part, and its arguments, which bind it to the part's bytes."""
    entry = work.target.entry
    bound: dict[str, Any] = {"Bucket": settings.bucket, "Key": work.target.key, "ContentLength": entry.part(number)[1]}
    if settings.checksums == "none":
        bound["ContentMD5"] = base64.b64encode(bytes.fromhex(work.target.md5[number - 1])).decode()
    elif work.upload_id is None and entry.sha256:
        # A whole file by one request: bound to what the manifest says of it, which nobody can make other bytes for. (The
        # sha256 of a big file is not known before it is sent.)
        bound |= {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": sha256_text(entry)}
    else:
        bound |= {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": entry.parts[number - 1]}
    if work.upload_id is not None:
        bound |= {"UploadId": work.upload_id, "PartNumber": number}
    elif settings.conditional and not work.replace:
        bound["IfNoneMatch"] = "*"
    return "upload_part" if work.upload_id is not None else "put_object", bound


def _request(settings: StoreSettings, work: PendingUpload, number: int, identity: int) -> dict[str, Any]:
    method, bound = _bound(settings, work, number)
    offset, length = work.target.entry.part(number)
    url = signed_url(settings, method, bound)
    return {
        "id": identity,
        "url": url,
        "headers": signed_headers(url, bound),
        "path": work.target.source,
        "offset": offset,
        "length": length,
        "exists_ok": "IfNoneMatch" in bound,
    }


def sha256_text(entry: ManifestEntry) -> str:
    """Return a file's sha256 as S3 writes it."""
    return base64.b64encode(bytes.fromhex(entry.sha256)).decode()


def signed_headers(url: str, bound: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that a URL was signed with: exactly these must be sent, no other x-amz-* header may be."""
    values = {
        "content-md5": bound.get("ContentMD5"),
        "if-none-match": bound.get("IfNoneMatch"),
        "x-amz-checksum-crc32": bound.get("ChecksumCRC32"),
        "x-amz-checksum-sha256": bound.get("ChecksumSHA256"),
        "x-amz-sdk-checksum-algorithm": bound.get("ChecksumAlgorithm"),
    }
    signed = parse_qs(urlsplit(url).query)["X-Amz-SignedHeaders"][0].split(";")
    return {name: str(values[name]) for name in signed if name not in ("host", "content-length")}
