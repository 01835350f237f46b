"""What may go from a bucket: what its declared rules say where the store carries none out, and what no run can use any more.

Nothing that could be a result is ever planned here. Each removal stands alone: killed at any instant, or beside another
one, the next sweep goes on. All times are the store's; ``now`` is passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Literal

from trainyard.clock import format_time
from trainyard.clouds.marker import LONGEST_LEASE
from trainyard.errors import StoreError
from trainyard.storage import bucket, lifecycle, objects
from trainyard.storage.auditanchors import ANCHORS
from trainyard.storage.client import StoreSettings
from trainyard.storage.eventlog import EVENTS
from trainyard.storage.inventory import ROOTS, StoredAttempt, attempts_in
from trainyard.storage.leftovers import of_canaries
from trainyard.storage.manifest import CHECKPOINTS, LOGS, ResultKey
from trainyard.storage.markers import ATTEMPTS, Claim, claim_of
from trainyard.storage.objects import OpenUpload, open_uploads
from trainyard.storage.rules import Rule, expires
from trainyard.storage.trial import CANARY
from trainyard.storage.versions import Version, keeps_versions, remove, versions

DAY = 86400.0
LONG_AGO = LONGEST_LEASE.total_seconds() + DAY
"""Seconds after which no pod can be at work on an attempt: no lease is longer, and a day is for clocks that differ."""
CHECKPOINT_DAYS = 14
"""How long the checkpoints of a success stay: who wants to go on from them has these days."""
_OURS = (*ROOTS, EVENTS, ANCHORS, "data/", "tmp/")
SweepKind = Literal["expired", "noncurrent", "marker", "open upload", "dead attempt", "deleted", "checkpoints", "tmp"]


@dataclass(frozen=True, slots=True)
class SweepItem:
    """Things that go together, and why; ``uploads`` are dropped, ``versions`` deleted, the claim of ``attempt`` last."""

    kind: SweepKind
    what: str
    why: str
    versions: tuple[Version, ...] = ()
    uploads: tuple[OpenUpload, ...] = ()
    attempt: ResultKey | None = None
    claim: Claim | None = None

    @property
    def count(self) -> int:
        """Number of objects, versions and uploads."""
        return len(self.versions) + len(self.uploads)

    @property
    def bytes(self) -> int:
        """What they hold."""
        return sum(one.size for one in self.versions) + sum(one.bytes for one in self.uploads)


def plan(settings: StoreSettings, now: float, alive: Collection[ResultKey] = ()) -> list[SweepItem]:
    """Return what may go at a moment (epoch seconds). ``alive`` are attempts that a record here says are not over."""
    versioned, attempts, uploads = keeps_versions(settings), attempts_in(settings), open_uploads(settings)
    state = lifecycle.get(settings)
    items: list[SweepItem] = []
    if state.kept_in == "object":
        for rule in state.rules:
            items += _by_rule(settings, rule, now, uploads, versioned)
    look = _Look(settings, now, versioned, uploads, _useless_since(attempts))
    for one in attempts:
        if one.key not in alive:
            items += _of_attempt(look, one)
    items += _tmp(settings, now, versioned, uploads)
    stale = tuple(u for u in uploads if u.key.startswith(_OURS) and 0 < u.begun < now - LONG_AGO)
    if stale:
        items.append(SweepItem("open upload", "our uploads", "begun longer ago than the longest lease", uploads=stale))
    return [item for item in _once(items) if item.count]


def sweep(settings: StoreSettings, items: Iterable[SweepItem], now: float) -> list[str]:
    """Carry a plan out; return what could not be removed and why. An attempt is looked at again before it is touched."""
    problems: list[str] = []
    for item in items:
        try:
            if item.attempt is None or _still(settings, item, now):
                problems += _remove_item(settings, item)
            else:
                problems.append(f"{item.what}: is not as it was when it was looked at; nothing of it was touched")
        except StoreError as error:
            problems.append(f"{item.what}: {error.message}")
    return problems


def _remove_item(settings: StoreSettings, item: SweepItem) -> list[str]:
    for upload in item.uploads:
        objects.drop(settings, upload.key, upload.upload_id)
    claim = f"{ATTEMPTS}{item.attempt}"
    left = remove(settings, (one for one in item.versions if one.key != claim))
    # Last, and only while it is this one: beside another sweep the number may have been claimed anew.
    if item.attempt is not None and not left and claim_of(settings, item.attempt) == item.claim:
        left = remove(settings, (one for one in item.versions if one.key == claim))
    return [f"{key}: {why}" for key, why in left.items()]


def objects_of(settings: StoreSettings, key: ResultKey, versioned: bool | None, roots: Sequence[str] = ROOTS) -> tuple[Version, ...]:
    """Return every version of every object of an attempt below the given roots, its claim too."""
    those: list[Version] = []
    for root in roots:
        exact = root == ATTEMPTS
        below = versions(settings, f"{root}{key}" + ("" if exact else "/"), versioned=versioned)
        those += (one for one in below if not exact or one.key == f"{root}{key}")
    return tuple(those)


def is_dead(one: StoredAttempt, now: float, uploads: Sequence[OpenUpload]) -> bool:
    """Tell whether no pod can be at work on an attempt any more, and it has left nothing that could be used.

    Its claim can be read and is older than the longest lease; nothing of it was written, and no upload begun, since; no marker,
    manifest or archive of a pod lies there, and no complete checkpoint.
    """
    if one.claim is None or one.claim.deleted or one.own or one.checkpoints:
        return False
    begun = (u.begun for u in uploads if u.key.startswith(_prefixes(one.key)))
    return max(one.when, one.newest, *begun) < now - LONG_AGO


def _prefixes(key: ResultKey) -> tuple[str, ...]:
    return tuple(f"{root}{key}/" for root in ROOTS)


def _useless_since(attempts: Sequence[StoredAttempt]) -> dict[ResultKey, float]:
    """Return since when the checkpoints of an attempt are of no use: it has succeeded, or a later attempt of its run has."""
    successes = (one for one in sorted(attempts, key=lambda one: one.key.attempt) if one.kind == "success")
    newest = {(one.key.user, one.key.run): one for one in successes}
    since: dict[ResultKey, float] = {}
    for one in attempts:
        after = newest.get((one.key.user, one.key.run))
        if one.kind == "success":
            since[one.key] = one.sealed
        elif after is not None and after.key.attempt > one.key.attempt:
            since[one.key] = max(after.sealed, one.newest + LONG_AGO)  # until then a pod may be at work on it
    return since


@dataclass(frozen=True, slots=True)
class _Look:
    """The bucket at the moment of a plan."""

    settings: StoreSettings
    now: float
    versioned: bool | None
    uploads: Sequence[OpenUpload]
    useless: Mapping[ResultKey, float]


def _of_attempt(look: _Look, one: StoredAttempt) -> Iterator[SweepItem]:
    settings, name, now, versioned = look.settings, str(one.key), look.now, look.versioned
    if one.kind == "deleted" and (one.files or one.own or one.checkpoint_bytes or one.log_bytes):
        rest = objects_of(settings, one.key, versioned, [root for root in ROOTS if root != ATTEMPTS])
        yield SweepItem("deleted", name, f"deleted by a person on {one.claim and one.claim.deleted}, not to its end", rest, attempt=one.key)
    elif is_dead(one, now, look.uploads):
        # The log of a run is no attempt's rubbish: the bucket's rules say when it goes, and with it stays the claim.
        roots = [root for root in ROOTS if root != LOGS and (root != ATTEMPTS or not one.log_bytes)]
        why = f"{one.claim}; left no result"
        yield SweepItem("dead attempt", name, why, objects_of(settings, one.key, versioned, roots), attempt=one.key, claim=one.claim)
    elif one.checkpoint_bytes and look.useless.get(one.key, now) < now - CHECKPOINT_DAYS * DAY:
        why = f"it succeeded on {format_time(one.sealed)}" if one.kind == "success" else "a later attempt of its run has succeeded"
        yield SweepItem("checkpoints", name, why, objects_of(settings, one.key, versioned, [CHECKPOINTS]), attempt=one.key)
    elif one.partial and one.newest < now - LONG_AGO:
        for partial in sorted(one.partial):
            prefix = f"{one.key.checkpoints}{partial}/"
            yield SweepItem(
                "checkpoints", prefix, "never complete", tuple(versions(settings, prefix, versioned=versioned)), attempt=one.key
            )


def _still(settings: StoreSettings, item: SweepItem, now: float) -> bool:
    """Tell whether what was planned for an attempt would be planned again: it may be sealed by now, or swept by somebody else."""
    assert item.attempt is not None
    key = item.attempt
    uploads = [u for prefix in _prefixes(key) for u in open_uploads(settings, prefix)]
    of_run = attempts_in(settings, f"{key.user}/{key.run}/")
    look = _Look(settings, now, keeps_versions(settings), uploads, _useless_since(of_run))
    again = [each for one in of_run if one.key == key for each in _of_attempt(look, one)]
    return any(each.kind == item.kind and each.what == item.what for each in again)


def _by_rule(settings: StoreSettings, rule: Rule, now: float, uploads: Sequence[OpenUpload], versioned: bool | None) -> Iterator[SweepItem]:
    what = f"rule '{rule.id}'"
    if rule.expire_days is not None and expires(rule.prefix) is None:
        old = now - rule.expire_days * DAY
        # As stores do: in a bucket that keeps versions an expired object gets a marker, and goes as a noncurrent version.
        gone = tuple(Version(i.key, i.size, i.modified) for i in bucket.listing(settings, rule.prefix) if i.modified < old)
        yield SweepItem("expired", what, f"{rule.prefix} after {rule.expire_days} days", gone)
    if rule.abort_uploads_days is not None:
        old = now - rule.abort_uploads_days * DAY
        stale = tuple(u for u in uploads if u.key.startswith(rule.prefix) and 0 < u.begun < old)
        yield SweepItem("open upload", what, f"{rule.prefix or 'all'} after {rule.abort_uploads_days} days", uploads=stale)
    days = rule.noncurrent_days
    if versioned and (days is not None or rule.expire_days is not None):
        listed = [list(group) for _, group in groupby(versions(settings, rule.prefix, versioned=True), lambda one: one.key)]
        lone = (group[0] for group in listed if len(group) == 1 and group[0].marker)
        yield SweepItem("marker", what, "nothing is behind it", tuple(one for one in lone if one.modified < now - (days or 1) * DAY))
        if days is not None:
            old = now - days * DAY
            # A version is noncurrent since the next newer one came.
            after = ((one, newer) for group in listed for newer, one in pairwise(group))
            gone = tuple(one for one, newer in after if not one.latest and newer.modified < old)
            yield SweepItem("noncurrent", what, f"{rule.prefix or 'all'} after {days} days", gone)


def _tmp(settings: StoreSettings, now: float, versioned: bool | None, uploads: Sequence[OpenUpload]) -> Iterator[SweepItem]:
    there = list(versions(settings, "tmp/", versioned=versioned))
    yield SweepItem("tmp", CANARY, "left by a canary that was cut off", *of_canaries(there, uploads, now))
    yield SweepItem("tmp", "tmp/", "older than a day", tuple(one for one in there if one.modified < now - DAY))


def _once(items: Iterable[SweepItem]) -> Iterator[SweepItem]:
    """Give each thing to the first item that names it."""
    seen: set[tuple[str, str | None]] = set()
    for item in items:
        new = tuple(one for one in item.versions if (one.key, one.id) not in seen)
        opened = tuple(one for one in item.uploads if (one.key, one.upload_id) not in seen)
        seen |= {(one.key, one.id) for one in new} | {(one.key, one.upload_id) for one in opened}
        yield replace(item, versions=new, uploads=opened)
