"""Signed URLs and how long they live: as long as the pod's lease, and never longer than what they were signed with."""

from __future__ import annotations

import time
from collections.abc import Mapping

from trainyard.storage.client import StoreSettings, s3

LONGEST = 7 * 24 * 3600
"""Seconds: what version 4 of the signature allows."""
WITHOUT_LEASE = 12 * 3600


def signed_url(settings: StoreSettings, method: str, bound: Mapping[str, object], *, most: float = LONGEST) -> str:
    """Return a URL for one request; it ends with the lease, the keys that signed it, or after ``most`` seconds."""
    seconds = url_seconds(settings, time.time(), most)
    return str(s3(settings).generate_presigned_url(method, Params=dict(bound), ExpiresIn=seconds))


def url_seconds(settings: StoreSettings, now: float, most: float = LONGEST) -> int:
    """Return the life of a URL that is signed now, in seconds."""
    until = settings.urls_until if settings.urls_until is not None else now + WITHOUT_LEASE
    ends = [until - now, most, float(LONGEST)]
    if settings.keys_end is not None:
        ends.append(settings.keys_end - now)
    return max(1, int(min(ends)))
