"""Small write-once objects: claims of attempts, closed fences.

A claim is If-None-Match on the store; where it has none, a lock on this machine stands in: two machines at the
same instant could then claim the same attempt, so a commit looks at the claim again (seal.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from trainyard.clouds.marker import is_id
from trainyard.config import Places, attempt_number
from trainyard.errors import ForeignResult, StoreError
from trainyard.filelock import hold_lock
from trainyard.jsontext import parse_json
from trainyard.pod.files import printable
from trainyard.storage import bucket, canary
from trainyard.storage.absent import absence
from trainyard.storage.answers import DENIED, store_errors
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.manifest import MODELS, Manifest, ResultKey
from trainyard.storage.seal import put_proven, read, read_each, token_of

ATTEMPTS = "attempts/"


@dataclass(frozen=True, slots=True)
class Claim:
    """Who has an attempt: the run's token, and what a person wants to know of its owner. Times are UTC text.

    ``deleted``: when a person has removed what it left, or the number was given back; the claim stays, so that it is never used again.
    """

    token: str
    user: str
    machine: str
    time: str
    recipe: str = ""
    deleted: str = ""

    def __str__(self) -> str:
        return f"claimed by {self.user} on {self.machine}, {self.time}"

    @property
    def given_back(self) -> bool:
        """Tell whether nothing was ever begun under it."""
        return self.deleted == self.time != ""

    @property
    def gone(self) -> str:
        """In words why nothing of the attempt is there, '' where something may be."""
        if not self.deleted:
            return ""
        return "given back before anything was rented" if self.given_back else f"deleted on {self.deleted}"


def claim_attempt(settings: StoreSettings, places: Places, where: ResultKey, claim: Claim) -> bool:
    """Claim one attempt of a run for good; False when somebody else has it."""
    return _write_once(settings, places, f"{ATTEMPTS}{where}", {**asdict(claim), "attempt": str(where.attempt)})


def claim_exactly(settings: StoreSettings, places: Places, where: ResultKey, claim: Claim) -> Claim | None:
    """Claim this attempt and no other; return who holds it where somebody did before, None when it is ours now.

    One that bears the claim's token is ours: the answer was lost, or the process died before it was used.
    """
    if claim_attempt(settings, places, where, claim):
        return None
    return claim_of(settings, where) or Claim("", "somebody", "a machine that is not named", "at a time that is not known")


def next_attempt(settings: StoreSettings, places: Places, user: str, run: str, claim: Claim, *, above: int = 0) -> int:
    """Claim the first attempt above ``above`` and all that the bucket knows, and return its number.

    One that bears the claim's token already is ours: the answer was lost, or the process died before it was used. It is used
    while it is the newest: what went on from what came after it would count as older than that.
    """
    taken = attempts(settings, user, run)
    newest = max(taken, default=0)
    if newest > above and _is_ours(settings, ResultKey(user, run, newest), claim.token):
        return newest
    number = max(above, *taken, 0) + 1
    while not claim_attempt(settings, places, ResultKey(user, run, number), claim):
        number += 1
    return number


def attempts(settings: StoreSettings, user: str, run: str) -> list[int]:
    """Return the attempts of a run that the bucket knows: claimed, or (older than claims) with anything of a result.

    To a key that may not list the bucket none is known: a claim then tries the numbers from 1.
    """
    prefix = f"{ATTEMPTS}{user}/{run}/"
    try:
        names = {item.key[len(prefix) :] for item in bucket.listing(settings, prefix)}
        names.update(bucket.folders(settings, f"{MODELS}{user}/{run}/"))
    except StoreError as error:
        if error.code not in DENIED:
            raise
        return []
    return sorted(number for name in names if (number := attempt_number(name)))


def claim_of(settings: StoreSettings, where: ResultKey) -> Claim | None:
    """Return who claimed an attempt; None when nobody did, or when it cannot be read as a claim."""
    body = read(settings, f"{ATTEMPTS}{where}")
    try:
        content = parse_json(body or b"")
        said = [str(content[name]) for name in ("token", "user", "machine", "time")]
        said += [str(content.get(name, "")) for name in ("recipe", "deleted")]  # older claims have only the first four
        return Claim(*map(printable, said))  # whoever writes to the bucket must not write to a person's terminal
    except (ValueError, KeyError, TypeError):
        return None


def give_back(settings: StoreSettings, where: ResultKey, claim: Claim) -> None:
    """Say in the claim that nothing was begun under it: its ``deleted`` is the moment of the claim itself."""
    mark_deleted(settings, where, claim, claim.time)


def mark_deleted(settings: StoreSettings, where: ResultKey, claim: Claim, when: str) -> None:
    """Say in the claim that a person has removed what the attempt left. It stays, so that the number is never used again."""
    put_proven(settings, f"{ATTEMPTS}{where}", _body({**asdict(replace(claim, deleted=when)), "attempt": str(where.attempt)}))


def refuse_foreign(settings: StoreSettings, where: ResultKey, token: str) -> None:
    """Raise ForeignResult when an attempt bears another token than ours: neither taken for ours nor written over."""
    keys = (where.success, where.kept, where.manifest)
    for key, body in zip(keys, read_each(settings, keys), strict=True):
        if body is not None and token_of(body) != token:
            raise _foreign(settings, where, key, token_of(body))
    if token and not settings.conditional:  # two machines may have claimed at the same instant: the last one holds it
        claim = claim_of(settings, where)
        if claim is not None and claim.token != token:
            raise _foreign(settings, where, f"{ATTEMPTS}{where}", claim.token)


def whose_else(settings: StoreSettings, where: ResultKey, manifest: Manifest) -> str:
    """Return whose a result is that lies under an attempt's key and is not that attempt's own; empty when it is.

    Marker and manifest that were copied from another run agree with each other: only the key in them, and the claim, tell.
    """
    if manifest.key != where:
        return f"that of {manifest.key}, not of {where}"
    claim = claim_of(settings, where)
    if claim is None or claim.token == manifest.token:
        return ""
    return f"another run's than the one that claimed {where} ({claim}): its token is '{manifest.token[:8]}'"


def refuse_unclaimed(settings: StoreSettings, where: ResultKey, manifest: Manifest) -> None:
    """Raise ForeignResult when what lies under an attempt's key is another run's result: it is not the one of that name."""
    if whose := whose_else(settings, where, manifest):
        raise ForeignResult(
            f"the result in {settings.url}/{where.prefix} is {whose}",
            hint=f"To take it as it lies there: invoke download {where} DIR --partial",
        )


def stranger(settings: StoreSettings, where: ResultKey, marker: bytes) -> str:
    """Return what is wrong with a marker that another run has written than the one that claimed its attempt, else nothing."""
    return strange(claim_of(settings, where), where, marker)


def strange(claim: Claim | None, where: ResultKey, marker: bytes) -> str:
    """Return the same, of an attempt whose claim is known."""
    token = token_of(marker)
    if claim is None or token in ("", claim.token):
        return ""
    return f"another run has written it than the one that claimed {where} ({claim}): its token is '{token[:8]}'"


def _foreign(settings: StoreSettings, where: ResultKey, key: str, token: str) -> ForeignResult:
    claim = claim_of(settings, where)
    known = f" ({claim})" if claim is not None and claim.token == token else ""
    return ForeignResult(
        f"{settings.url}/{key} belongs to another run{known}: its token is '{token[:8]}'; nothing there was changed",
        hint="A new run gets another attempt by itself; another --name avoids it, too.",
    )


def describe_claim(settings: StoreSettings, where: ResultKey, ended: str | None = None) -> str:
    """Return what a person is told of an attempt that is taken: whose it is, and whether it may still be at work.

    ``ended`` is the token of the record of this attempt that this checkout has; it is over.
    """
    claim = claim_of(settings, where)
    if ended is not None and (claim is None or claim.token == ended):
        return f"attempt {where.attempt} has ended, on this machine"
    whose = f"attempt {where.attempt} was {claim}" if claim else f"attempt {where.attempt} is older than claims"
    if claim is not None and claim.gone:
        return f"{whose}, and {claim.gone}"
    over = any(body is not None for body in read_each(settings, (where.success, where.kept)))
    return whose if over else f"{whose}; it has no result and may still be at work"


def _is_ours(settings: StoreSettings, where: ResultKey, token: str) -> bool:
    claim = claim_of(settings, where)
    return claim is not None and claim.token == token


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
    settings = canary.probed(settings)
    with hold_lock(places.home / "claims.lock"):
        if not settings.conditional:
            if _exists(settings, key):
                return False
            _put(settings, key, note, {})
            return read(settings, key) == _body(note)  # another machine may have written at the same moment
        return _put(settings, key, note, {"IfNoneMatch": "*"})


def _put(settings: StoreSettings, key: str, note: Mapping[str, str], more: Mapping[str, Any]) -> bool:
    body = _body(note)
    with store_errors(f"write {settings.url}/{key}", *((409, 412) if more else ())) as refusal:
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=body, **more)
    # 412 is also what a retry of our own lost answer gets, then the note in it is ours.
    # 409 is AWS's: another conditional write of this key is under way.
    return not refusal or (refusal.status == 412 and read(settings, key) == body)


def _body(note: Mapping[str, str]) -> bytes:
    return json.dumps(dict(note), sort_keys=True).encode()


def _exists(settings: StoreSettings, key: str) -> bool:
    with absence(settings, f"look for {settings.url}/{key}") as refusal:
        s3(settings).head_object(Bucket=settings.bucket, Key=key)
    return not refusal
