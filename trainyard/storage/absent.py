"""What is not there, where a key may not list: such a store answers 403 to a question for an absent object, not 404.

Amazon does that where s3:ListBucket is missing; VersityGW and MinIO say 404 (seen). A 403 is taken for "absent" only when
this very key is proven to read what it has written, and to get 403 for a name that nobody has ever used.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from trainyard.errors import StoreError
from trainyard.storage.answers import DENIED, StoreRefusal, hint_for, store_errors
from trainyard.storage.client import StoreSettings, s3


@contextmanager
def absence(settings: StoreSettings, what: str) -> Iterator[StoreRefusal]:
    """Like store_errors(): the yielded refusal tells that the object is not there; anything else is raised as StoreError."""
    with store_errors(what, 404, *DENIED) as refusal:
        yield refusal
    if refusal.code in DENIED and not _hides_absent(replace(settings, urls_until=None)):
        raise StoreError(f"{what}: this key may not ({refusal.code})", hint=hint_for("AccessDenied"), code="AccessDenied")


@functools.lru_cache(maxsize=64)
def _hides_absent(settings: StoreSettings) -> bool:
    """Tell whether this key reads what is there, and gets 403 for what cannot be."""
    client, key = s3(settings), f"tmp/absent-{secrets.token_hex(8)}"
    with store_errors(f"look below {settings.url}/tmp/", *DENIED) as refusal:
        version = client.put_object(Bucket=settings.bucket, Key=key, Body=b"here").get("VersionId")
        readable = client.get_object(Bucket=settings.bucket, Key=key)["Body"].read() == b"here"
        more = {"VersionId": version} if version and version != "null" else {}
        client.delete_object(Bucket=settings.bucket, Key=key, **more)
    if refusal or not readable:
        return False
    with store_errors(f"look below {settings.url}/tmp/", *DENIED, 404) as refusal:
        client.head_object(Bucket=settings.bucket, Key=f"tmp/absent-{secrets.token_hex(8)}")
    return refusal.code in DENIED
