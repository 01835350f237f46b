"""Events of runs in the bucket: small objects, each written once, for machines that have no ledger in common.

events/<user>/<run>/<attempt>/<milliseconds>-<8 hex of its id>.json
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.seal import read

EVENTS = "events/"
TOGETHER = 8
"""Requests at a time: a run's own files have the wire before its events."""
_LARGEST = 256 << 10
"""Bytes of an object that can be an event: whatever else lies there is not fetched."""
_KEY = re.compile(rf"{EVENTS}([a-z0-9][a-z0-9-]*)/([a-z0-9][a-z0-9-]*)/([1-9][0-9]{{0,8}})/([0-9]{{13}})-([0-9a-f]{{8}})\.json")


@dataclass(frozen=True, slots=True, order=True)
class EventKey:
    """Where one event lies."""

    user: str
    run: str
    attempt: int
    milliseconds: int
    short: str
    """The first 8 hex digits of its id."""

    def __str__(self) -> str:
        return f"{EVENTS}{self.user}/{self.run}/{self.attempt}/{self.milliseconds:013d}-{self.short}.json"


@dataclass(frozen=True, slots=True)
class EventPage:
    """A piece of the listing; ``after``: where the next one begins, None when there is none."""

    keys: Sequence[EventKey]
    after: str | None


def put(settings: StoreSettings, key: EventKey, body: bytes) -> None:
    """Write an event where it is not there yet."""
    once = {"IfNoneMatch": "*"} if settings.conditional else {}
    with store_errors(f"write {settings.url}/{key}", *((409, 412) if once else ())):  # it is there, or just being written
        s3(settings).put_object(Bucket=settings.bucket, Key=str(key), Body=body, **once)


def page(settings: StoreSettings, after: str = "", below: str = "") -> EventPage:
    """List up to a thousand events in the order of their names; what has another name or is too large is left out.

    ``below``: only those of ``user/``, ``user/run/`` or ``user/run/attempt/``.
    """
    more: dict[str, Any] = {"StartAfter": after} if after else {}
    with store_errors(f"list {settings.url}/{EVENTS}"):
        answer = s3(settings).list_objects_v2(Bucket=settings.bucket, Prefix=EVENTS + below, **more)
    entries = answer.get("Contents", [])
    names = [str(entry["Key"]) for entry in entries]
    small = [str(entry["Key"]) for entry in entries if int(entry["Size"]) <= _LARGEST]
    keys = [EventKey(m[1], m[2], int(m[3]), int(m[4]), m[5]) for name in small if (m := _KEY.fullmatch(name))]
    return EventPage(keys, names[-1] if answer.get("IsTruncated") and names else None)


def bodies(settings: StoreSettings, keys: Sequence[EventKey]) -> list[tuple[EventKey, bytes]]:
    """Return what events say; one that has gone meanwhile is left out."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        answers = pool.map(lambda key: read(settings, str(key)), keys)
        return [(key, body) for key, body in zip(keys, answers, strict=True) if body is not None]
