"""Anchors of an audit log in a bucket: how far its chain had come at a moment, each object written once.

audit/<chain>/<sequence>.json
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.eventlog import TOGETHER
from trainyard.storage.seal import read

ANCHORS = "audit/"
_KEY = re.compile(rf"{ANCHORS}([0-9a-f]{{16}})/([0-9]{{12}})\.json")
_READ = 50
"""The newest anchors are read; before them the chain itself binds every row."""


def put_anchor(settings: StoreSettings, chain: str, sequence: int, body: bytes) -> None:
    """Write an anchor where it is not there yet."""
    key = f"{ANCHORS}{chain}/{sequence:012d}.json"
    once = {"IfNoneMatch": "*"} if settings.conditional else {}
    with store_errors(f"write {settings.url}/{key}", *((409, 412) if once else ())):
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=body, ContentType="application/json", **once)


def newest_anchors(settings: StoreSettings, chain: str) -> list[tuple[int, bytes]]:
    """Return number and content of a chain's newest anchors, oldest first."""
    keys = [key for key in _listed(settings, f"{ANCHORS}{chain}/") if _KEY.fullmatch(key)][-_READ:]
    with ThreadPoolExecutor(TOGETHER) as pool:
        bodies = list(pool.map(lambda key: read(settings, key), keys))
    return [(int(match[2]), body) for key, body in zip(keys, bodies, strict=True) if body is not None and (match := _KEY.fullmatch(key))]


def chains(settings: StoreSettings) -> Sequence[str]:
    """Return the chains that a bucket has anchors of."""
    with store_errors(f"list {settings.url}/{ANCHORS}"):
        answer = s3(settings).list_objects_v2(Bucket=settings.bucket, Prefix=ANCHORS, Delimiter="/")
    return [str(entry["Prefix"])[len(ANCHORS) : -1] for entry in answer.get("CommonPrefixes", [])]


def _listed(settings: StoreSettings, prefix: str) -> list[str]:
    with store_errors(f"list {settings.url}/{prefix}"):
        pages = s3(settings).get_paginator("list_objects_v2").paginate(Bucket=settings.bucket, Prefix=prefix)
        return [str(entry["Key"]) for page in pages for entry in page.get("Contents", [])]
