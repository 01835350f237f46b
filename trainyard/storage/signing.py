"""Signed URLs and how long they live: as long as the pod's lease, and never longer than what they were signed with."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from trainyard.storage.client import StoreSettings, s3

if TYPE_CHECKING:
    from botocore.credentials import Credentials

LONGEST = 7 * 24 * 3600
"""Seconds: what version 4 of the signature allows."""
WITHOUT_LEASE = 12 * 3600
_PLAIN = re.compile(r"https?://[a-z0-9.-]+(?::(?!(?:80|443)$)\d+)?")
"""An address that stands in a signature as it is."""
_VERBS = {"get_object": "GET", "head_object": "HEAD", "put_object": "PUT", "upload_part": "PUT"}
_HEADERS = {
    "ContentLength": "content-length", "ContentMD5": "content-md5", "IfNoneMatch": "if-none-match", "ChecksumMode": "x-amz-checksum-mode",
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm", "ChecksumCRC32": "x-amz-checksum-crc32", "ChecksumSHA256": "x-amz-checksum-sha256",
}  # fmt: skip
_QUERY = {"PartNumber": "partNumber", "UploadId": "uploadId"}
_KNOWN = {"Bucket", "Key", *_HEADERS, *_QUERY}


def signed_url(settings: StoreSettings, method: str, bound: Mapping[str, object], *, most: float = LONGEST) -> str:
    """Return a URL for one request; it ends with the lease, the keys that signed it, or after ``most`` seconds."""
    seconds = url_seconds(settings, time.time(), most)
    if _PLAIN.fullmatch(settings.endpoint or "") and method in _VERBS and settings.chain is None and bound.keys() <= _KNOWN:
        return _signed(settings, _VERBS[method], bound, seconds)
    return str(s3(settings).generate_presigned_url(method, Params=dict(bound), ExpiresIn=seconds))


def url_seconds(settings: StoreSettings, now: float, most: float = LONGEST) -> int:
    """Return the life of a URL that is signed now, in seconds."""
    until = settings.urls_until if settings.urls_until is not None else now + WITHOUT_LEASE
    ends = [until - now, most, float(LONGEST)]
    if settings.keys_end is not None:
        ends.append(settings.keys_end - now)
    return max(1, int(min(ends)))


def _signed(settings: StoreSettings, verb: str, bound: Mapping[str, object], seconds: int) -> str:
    """Return the URL that the client would sign, by the signature it signs with: for 10,000 files a third of the work, and no client."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    address = f"{settings.endpoint}/{bound['Bucket']}/{quote(str(bound['Key']), safe='/~')}"
    query = {_QUERY[name]: str(bound[name]) for name in _QUERY if name in bound}
    headers = {_HEADERS[name]: str(value) for name, value in bound.items() if name in _HEADERS}
    request = AWSRequest(method=verb, url=address, params=query, headers=headers)
    S3SigV4QueryAuth(_keys(settings), "s3", settings.region, expires=seconds).add_auth(request)
    return str(request.url)


@functools.lru_cache(maxsize=16)
def _keys(settings: StoreSettings) -> Credentials:
    from botocore.credentials import Credentials

    token = settings.session_token.reveal() if settings.session_token else None
    return Credentials(settings.access_key.reveal(), settings.secret_key.reveal(), token)
