"""Small write-once objects: claims of attempts, closed fences.

A claim is If-None-Match on the store; where it has none, a lock on this machine stands in and two machines
could claim the same attempt (``shared_claims`` says which it is).
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trainyard.clouds.marker import is_id
from trainyard.config import Places
from trainyard.storage import bucket
from trainyard.storage.answers import spoken
from trainyard.storage.client import StoreSettings, s3


def shared_claims(settings: StoreSettings) -> bool:
    """Tell whether claims hold between machines, not only on this one."""
    return settings.conditional


def claim_attempt(settings: StoreSettings, places: Places, user: str, run: str, attempt: int, note: Mapping[str, str]) -> bool:
    """Claim one attempt of a run; False when somebody has it already."""
    return _write_once(settings, places, f"attempts/{user}/{run}/{attempt}", note)


def next_attempt(settings: StoreSettings, places: Places, user: str, run: str, note: Mapping[str, str]) -> int:
    """Claim the first attempt above those that are taken, and return its number."""
    number = max(attempts(settings, user, run), default=0) + 1
    while not claim_attempt(settings, places, user, run, number, note):
        number += 1
    return number


def attempts(settings: StoreSettings, user: str, run: str) -> list[int]:
    """Return the claimed attempts of a run."""
    prefix = f"attempts/{user}/{run}/"
    names = [item.key[len(prefix) :] for item in bucket.listing(settings, prefix)]
    return sorted(int(name) for name in names if name.isdigit())


def close_fence(settings: StoreSettings, fence_id: str, note: Mapping[str, str]) -> None:
    """Mark an environment as closed for good: no run may rent under its fence id any more. Repeating it is harmless."""
    _put(settings, _closed_key(fence_id), note, {})


def fence_is_closed(settings: StoreSettings, fence_id: str) -> bool:
    """Tell whether an environment was closed; raises StoreError when the store gives no definite answer."""
    return _exists(settings, _closed_key(fence_id))


def _closed_key(fence_id: str) -> str:
    if not is_id(fence_id):
        raise ValueError(f"not a fence id: {fence_id!r}")
    return f"closed/{fence_id}"


def _write_once(settings: StoreSettings, places: Places, key: str, note: Mapping[str, str]) -> bool:
    settings = bucket.probed(settings)
    note = {**note, "token": secrets.token_hex(8)}  # tells our own lost answer from somebody else's claim
    with _machine_lock(places):
        if not settings.conditional:
            if _exists(settings, key):
                return False
            _put(settings, key, note, {})
            return True
        return _put(settings, key, note, {"IfNoneMatch": "*"})


def _put(settings: StoreSettings, key: str, note: Mapping[str, str], more: Mapping[str, Any]) -> bool:
    body = json.dumps(dict(note), sort_keys=True).encode()
    with spoken(f"write {settings.url}/{key}", *((409, 412) if more else ())) as refusal:
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=body, **more)
    # 412 is also what a retry of our own lost answer gets, then the note in it is ours.
    # 409 is AWS's: another conditional write of this key is under way.
    return not refusal or (refusal.status == 412 and _read(settings, key) == body)


def _read(settings: StoreSettings, key: str) -> bytes:
    with spoken(f"read {settings.url}/{key}"):
        body: bytes = s3(settings).get_object(Bucket=settings.bucket, Key=key)["Body"].read()
    return body


def _exists(settings: StoreSettings, key: str) -> bool:
    with spoken(f"look for {settings.url}/{key}", 404) as refusal:
        s3(settings).head_object(Bucket=settings.bucket, Key=key)
    return not refusal


@contextmanager
def _machine_lock(places: Places) -> Iterator[None]:
    places.home.mkdir(parents=True, exist_ok=True)
    lock = os.open(places.home / "claims.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
