"""What a bucket holds of runs: every attempt with its claim, its kind and its sizes. Needs no record of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from trainyard.clock import parse_time
from trainyard.storage import bucket
from trainyard.storage.bucket import Item
from trainyard.storage.client import THREADS, StoreSettings
from trainyard.storage.manifest import CHECKPOINT, CHECKPOINTS, KEPT, LOGS, MODELS, POD_COMMITTED, POD_TAR, SUCCESS, ResultKey
from trainyard.storage.markers import ATTEMPTS, Claim, claim_of, strange
from trainyard.storage.seal import read

ROOTS = (ATTEMPTS, MODELS, CHECKPOINTS, LOGS)
"""Where the objects of an attempt lie."""
AttemptKind = Literal["success", "kept", "pod-committed", "unfinished", "claimed", "deleted", "foreign"]
"""unfinished: objects without a marker; claimed: nothing but the claim (and logs); deleted: a person has removed what it left;
foreign: another run than the one that claimed it has written its marker."""
_MARKERS: Sequence[tuple[str, AttemptKind]] = ((SUCCESS, "success"), (KEPT, "kept"), (POD_COMMITTED, "pod-committed"))
_KEY = re.compile(r"^([a-z]+/)([a-z0-9][a-z0-9-]*)/([a-z0-9][a-z0-9-]*)/([1-9][0-9]{0,8})(?:/(.*))?$", re.DOTALL)


@dataclass(slots=True)
class StoredAttempt:
    """One attempt as the bucket shows it. Sizes are bytes, moments are epoch seconds; ``files`` are those of the result."""

    key: ResultKey
    marks: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    """Names of our own objects beside the result's files: markers, manifest, what a pod has packed."""
    claim: Claim | None = None
    claimed: bool = False
    files: int = 0
    bytes: int = 0
    own_bytes: int = 0
    """Of these, what manifest and markers have; what a pod has packed is its result."""
    log_bytes: int = 0
    checkpoint_bytes: int = 0
    checkpoints: set[str] = field(default_factory=set)
    """Names of those that are complete."""
    partial: set[str] = field(default_factory=set)
    """Names of those that have objects and no mark."""
    newest: float = 0.0
    """When its newest object was written."""
    sealed: float = 0.0
    """When its newest marker was written."""
    foreign: str = ""
    """What is wrong with its marker where another run has written it (look_for_foreign); '' where that was not asked, too."""

    @property
    def kind(self) -> AttemptKind:
        """What the attempt has come to, as far as the bucket tells."""
        if self.claim is not None and self.claim.deleted:
            return "deleted"
        if self.foreign:
            return "foreign"
        for name, kind in _MARKERS:
            if name in self.marks:
                return kind
        return "unfinished" if self.files or self.checkpoint_bytes else "claimed"

    @property
    def when(self) -> float:
        """When it was claimed; of one that is older than claims, when its newest object was written."""
        moment = parse_time(self.claim.time) if self.claim else None
        return moment.timestamp() if moment else self.newest

    def take(self, root: str, path: str, item: Item) -> None:
        """Count one object of the attempt."""
        self.newest = max(self.newest, item.modified)
        if root == ATTEMPTS:
            self.claimed = True
        elif root == LOGS:
            self.log_bytes += item.size
        elif root == CHECKPOINTS:
            name, _, inside = path.partition("/")
            (self.checkpoints if inside == CHECKPOINT else self.partial).add(name)
            self.checkpoint_bytes += item.size
        elif path.startswith("_"):
            self.own.add(path)
            self.bytes += item.size
            self.own_bytes += item.size if path != POD_TAR else 0
            if path in (name for name, _ in _MARKERS):
                self.marks.add(path)
                self.sealed = max(self.sealed, item.modified)
        else:
            self.files += 1
            self.bytes += item.size


def split_key(key: str) -> tuple[str, ResultKey, str] | None:
    """Return the root, the attempt and the path below it of an object's key, None for one that is no attempt's."""
    match = _KEY.match(key)
    if not match or match[1] not in ROOTS:
        return None
    return match[1], ResultKey(match[2], match[3], int(match[4])), match[5] or ""


def run_names(settings: StoreSettings) -> list[str]:
    """Return ``<user>/<run>`` of every run that has a claim or a result; its objects are not listed, and there may be millions."""
    names: set[str] = set()
    for root in (ATTEMPTS, MODELS):
        for user in bucket.folders(settings, root):
            names.update(f"{user}/{run}" for run in bucket.folders(settings, f"{root}{user}/"))
    return sorted(names)


def attempts_in(settings: StoreSettings, below: str = "") -> list[StoredAttempt]:
    """Return all attempts of a bucket, or those below ``<user>/`` or ``<user>/<run>/``, oldest first, with their claims."""
    attempts: dict[ResultKey, StoredAttempt] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for items in pool.map(lambda root: list(bucket.listing(settings, root + below)), ROOTS):
            _count(attempts, items)
        claimed = [one for one in attempts.values() if one.claimed]
        for one, claim in zip(claimed, pool.map(lambda one: claim_of(settings, one.key), claimed), strict=True):
            one.claim = claim
    for one in attempts.values():
        one.partial -= one.checkpoints
    return sorted(attempts.values(), key=lambda one: (one.when, str(one.key)))


def look_for_foreign(settings: StoreSettings, attempts: Iterable[StoredAttempt]) -> None:
    """Read the markers of claimed attempts and note those that another run has written: a read for each."""
    marked = [(one, name) for one in attempts for name in (SUCCESS, KEPT) if name in one.marks and one.claim is not None]
    with ThreadPoolExecutor(THREADS) as pool:
        bodies = pool.map(lambda pair: read(settings, pair[0].key.prefix + pair[1]), marked)
        for (one, _), body in zip(marked, bodies, strict=True):
            one.foreign = one.foreign or strange(one.claim, one.key, body or b"")


def _count(attempts: dict[ResultKey, StoredAttempt], items: Iterable[Item]) -> None:
    for item in items:
        if parts := split_key(item.key):
            root, key, path = parts
            attempts.setdefault(key, StoredAttempt(key)).take(root, path, item)
