"""Which result does a person mean: a label, ``<user>/<run>``, a key or an ``s3://`` URL. Needs no ledger."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from trainyard.config import attempt_number, slug
from trainyard.errors import StoreError, UserError
from trainyard.nearest import nearest
from trainyard.storage import bucket
from trainyard.storage.answers import DENIED
from trainyard.storage.client import StoreSettings, sync_command
from trainyard.storage.inventory import run_names
from trainyard.storage.manifest import KEPT, MODELS, POD_COMMITTED, SUCCESS, ResultKey, is_name
from trainyard.storage.markers import attempts, claim_of
from trainyard.storage.seal import read_each

_OTHER_FOLDERS = ("attempts", "checkpoints", "closed", "data", "jobs", "lifecycle", "logs", "tmp")
_RUN = re.compile(rf"^{MODELS}([a-z0-9][a-z0-9-]*)/([a-z0-9][a-z0-9-]*)/([1-9][0-9]{{0,8}})(?:/(.*))?$", re.DOTALL)
_LONGEST_KEY = 1024
"""Bytes of an object's key, on every store."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One attempt as the bucket shows it; ``kept`` is what was kept of one that was no success.

    ``modified`` is the time of the newest object (epoch).
    """

    key: ResultKey
    committed: bool
    kept: bool
    files: int
    bytes: int
    modified: float
    pod_committed: bool = False
    """Its pod has committed it alone, and no machine has sealed it yet."""


@dataclass(frozen=True, slots=True)
class ResultReference:
    """What a reference means: an attempt and, below it, a path ('' is the whole result, 'model/' its model)."""

    key: ResultKey
    path: str
    newer: tuple[Listed, ...] = ()
    """Attempts after the one that is meant, where the reference named none: no success, or not committed."""


def list_results(settings: StoreSettings, user: str | None = None, run: str | None = None) -> list[Listed]:
    """Return all attempts in the bucket (of a user, of a name), oldest first; those not committed are marked."""
    # Only what is asked for is listed: a bucket may hold a million files of other runs.
    owners = [f"{MODELS}{user}/"] if user else [f"{MODELS}{name}/" for name in bucket.folders(settings, MODELS)] if run else [MODELS]
    sums: dict[ResultKey, list[float]] = {}
    markers: dict[str, set[ResultKey]] = {SUCCESS: set(), KEPT: set(), POD_COMMITTED: set()}
    for item in (item for owner in owners for item in bucket.listing(settings, owner + (f"{run}/" if run else ""))):
        key, path = _split(item.key)
        if key is None:
            continue
        entry = sums.setdefault(key, [0, 0, 0.0])
        if path in markers:
            markers[path].add(key)
        if not path.startswith("_"):
            entry[0] += 1
            entry[1] += item.size
        entry[2] = max(entry[2], item.modified)
    results = [
        Listed(key, key in markers[SUCCESS], key in markers[KEPT], int(n), int(size), at, key in markers[POD_COMMITTED])
        for key, (n, size, at) in sums.items()
    ]
    return sorted(results, key=lambda one: (one.modified, one.key.user, one.key.run, one.key.attempt))


def lone_commits(settings: StoreSettings, run: str) -> list[ResultKey]:
    """Return the attempts of a name that their pods have committed alone and no machine has sealed; none where this key may not list."""
    try:
        return [one.key for one in list_results(settings, run=run) if one.pod_committed]
    except StoreError as error:
        if error.code not in DENIED:
            raise
        return []


def find(settings: StoreSettings, reference: str, *, user: str | None = None, uncommitted: bool = False) -> ResultReference:
    """Return the attempt that a reference names: its newest success unless the reference says which, else the newest that was kept.

    Raises UserError naming near names for an unknown one, and when a label belongs to several users.
    """
    text = below_bucket(settings, reference)
    key, path = _split(text)
    if key is not None:
        return ResultReference(key, path)
    names = text[len(MODELS) :] if text.startswith(MODELS) else text
    parts = names.strip("/").split("/")
    if not all(parts) or (len(parts) > 1 and parts[0] in _OTHER_FOLDERS):
        raise UserError(f"'{reference}' is neither a run nor a key of a result", hint=_forms(settings))
    # <run>, or <user>/<run>[/<attempt>][/<path>]; users of other tools know <user>/<run>/model/.
    owner, run, rest = (None, parts[0], []) if len(parts) == 1 else (parts[0], parts[1], parts[2:])
    number = attempt_number(rest[0]) if rest and is_name(run) else None
    if owner and number and _is_over(settings, exact := ResultKey(slug(owner), run, number)):
        return ResultReference(exact, "/".join(rest[1:]))  # its files need not be listed, and there may be thousands
    results = _attempts(settings, slug(owner) if owner else None, run, user) if is_name(run) else []
    if number:
        results = [one for one in results if one.key.attempt == number]
        rest = rest[1:]
    if not results and is_name(run) and (claimer := slug(owner) if owner else user):
        _refuse_claimed(settings, claimer, run, number)
    chosen = _choose(settings, reference, results, user, uncommitted)
    newer = (one for one in results if one.key.user == chosen.user and one.key.attempt > chosen.attempt)
    return ResultReference(chosen, "/".join(rest), tuple(sorted(newer, key=lambda one: one.key.attempt)))


def _attempts(settings: StoreSettings, owner: str | None, run: str, user: str | None) -> list[Listed]:
    """Return the attempts of a name; a key that may not list asks for them by their numbers, as they were claimed."""
    try:
        return [one for one in list_results(settings, owner, run) if one.key.run == run]
    except StoreError as error:
        if error.code not in DENIED or not (owner or user):
            raise
    results: list[Listed] = []
    while claim_of(settings, key := ResultKey(str(owner or user), run, len(results) + 1)) is not None:
        success, kept, alone = (body is not None for body in read_each(settings, (key.success, key.kept, f"{key.prefix}{POD_COMMITTED}")))
        results.append(Listed(key, success, kept, 0, 0, 0.0, alone))
    return results


def _refuse_claimed(settings: StoreSettings, owner: str, run: str, number: int | None) -> None:
    """Raise UserError where a name without a result has been claimed: its result was deleted, or it may be at work elsewhere."""
    keys = [ResultKey(owner, run, attempt) for attempt in attempts(settings, owner, run) if number in (None, attempt)]
    claim = claim_of(settings, keys[-1]) if keys else None
    if claim and claim.gone:
        raise UserError(f"attempt {keys[-1].attempt} of {owner}/{run} has no result in {settings.url}: {claim.gone}")
    if claim:
        raise UserError(
            f"attempt {keys[-1].attempt} of {owner}/{run} has no result in {settings.url}: {claim}; it may be at work, or has left nothing",
            hint=f"Follow it where it was started: invoke attach {owner}/{run}",
        )


def _is_over(settings: StoreSettings, key: ResultKey) -> bool:
    return any(body is not None for body in read_each(settings, (key.success, key.kept)))


def _choose(settings: StoreSettings, reference: str, results: list[Listed], user: str | None, uncommitted: bool) -> ResultKey:
    if not results:
        raise UserError(f"there is no result '{reference}' in {settings.url}", hint=_near(settings, reference))
    owners = sorted({one.key.user for one in results})
    if len(owners) > 1:
        if user not in owners:
            names = ", ".join(f"{owner}/{results[0].key.run}" for owner in owners)
            raise UserError(f"'{reference}' is the name of several users' runs", hint=f"Say which: {names}.")
        results = [one for one in results if one.key.user == user]
    usable = [one for one in results if one.committed] or [one for one in results if one.kept]
    usable = results if uncommitted else usable
    if not usable:
        newest = max(results, key=lambda one: one.key.attempt)
        holds = f"holds {newest.files} files, but " if newest.files else ""  # a key that may not list knows of none
        raise StoreError(
            f"'{reference}' {holds}was never committed (no {SUCCESS}): it may be incomplete",
            hint=unproved(settings, newest.key),
        )
    return max(usable, key=lambda one: one.key.attempt).key


def unproved(settings: StoreSettings, key: ResultKey) -> str:
    """Return what a person can do about an attempt without a marker: without a manifest no download can prove anything of it."""
    has_manifest = read_each(settings, (key.manifest,)) != [None]
    way = "Take it as it is with --partial" if has_manifest else f"Copy it, unproved: {sync_command(settings, key.prefix, 'DIR')}"
    return f"{way}\nOr finish it with `invoke recover` while its pod lives."


def below_bucket(settings: StoreSettings, reference: str) -> str:
    """Return a reference without ``s3://bucket/``; raises UserError for one into another bucket, and for what no key can be."""
    text = reference.strip()
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"{text[:40]!a} is no UTF-8, as each key of a store is", hint=_forms(settings))
    if (length := len(os.fsencode(text))) > _LONGEST_KEY:
        raise UserError(f"'{text[:40]}...' has {length:,} bytes: no key of a store is longer than {_LONGEST_KEY:,}", hint=_forms(settings))
    if not text.startswith("s3://"):
        return text.lstrip("/")
    name, _, key = text[len("s3://") :].partition("/")
    if name != settings.bucket:
        raise UserError(f"'{reference}' lies in bucket '{name}', but this stack's bucket is '{settings.bucket}'")
    return key


def _split(key: str) -> tuple[ResultKey | None, str]:
    match = _RUN.match(key)
    if not match:
        return None, ""
    return ResultKey(match[1], match[2], int(match[3])), match[4] or ""


def _near(settings: StoreSettings, reference: str) -> str:
    try:
        names = run_names(settings)
    except StoreError as error:
        if error.code not in DENIED:
            raise
        return "This key may not list the bucket: say it as <user>/<run>/<attempt>."
    if not names:
        return f"There is no result in {settings.url} yet."
    text = reference.strip("/")
    by_label = {name.partition("/")[2]: name for name in names}
    near = nearest(text, names)
    near += [by_label[label] for label in nearest(text.rpartition("/")[2], by_label)]
    shown = list(dict.fromkeys(near))[:3]
    return f"Near names: {', '.join(shown)}." if shown else f"Newest: {', '.join(names[-3:])}."


def _forms(settings: StoreSettings) -> str:
    return f"It is a label, <user>/<run>, {MODELS}<user>/<run>/<attempt>/... or {settings.url}/{MODELS}..."
