"""Lifecycle rules: ours are merged with those of others, compared in one normal form, and shown.

Stores rewrite rules (order, filters, defaults), so rules are compared as a map from ID to normal form, and only
rules with an ID that somebody of ours declares or has declared are ever changed: several environments may share a bucket
(declared.py). Where a store has no lifecycle (VersityGW, RunPod) the rules are kept
as an object in the bucket, which `invoke gc` (sweeper.py) carries out; ``Lifecycle.notes`` say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from trainyard.errors import StoreError
from trainyard.retries import Backoff
from trainyard.storage.answers import DENIED, store_errors
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.rules import OURS, Rule, altered, as_document, expiring, from_wire, in_document, normal, to_wire, without_aborts
from trainyard.storage.seal import put_proven, read

OBJECT = "lifecycle/rules.json"
DEFAULT: Mapping[str, Any] = to_wire(Rule("Default-uploads", abort_uploads_days=7))  # no id of a person's has a capital
"""Put beside what is declared, unless somebody's rule drops uploads: one that a lost machine left open is billed for ever."""
_DROPS_UPLOADS = ("aws", "r2")
"""Stores that are known to carry it out. Others refuse it, or drop it in silence (MinIO): there a person declares it, or not."""
NO_LIFECYCLE = "this store carries no lifecycle rules out: they are kept in the bucket, and each `invoke gc` does what they say"
# AWS is eventually consistent here.
_PATIENCE = 180.0
_UNSUPPORTED = (400, 405, 501)
DAMAGED = "DamagedRules"
"""Code of the error where the bucket holds no rules under the name of them."""
_READ = "s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The rules of a bucket: ours, and the IDs of others' rules that were left alone."""

    kept_in: Literal["store", "object", "unseen"]
    """store: it carries them out. object: kept in the bucket, for the sweeper. unseen: this key may not look, and none is declared."""
    rules: tuple[Rule, ...]
    foreign: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    """Ours that somebody has changed in a way that no declaration could: switched off, or with another filter."""
    left_out: tuple[str, ...] = ()
    """Ours whose word on open uploads this store does not take."""

    @property
    def notes(self) -> Iterator[str]:
        """What a person must know about these rules."""
        if self.dangerous:
            yield f"rules that are not ours would expire results in this bucket: {', '.join(self.dangerous)}"
        if self.left_out:
            yield f"this store does not drop open uploads by a rule; left out: {', '.join(self.left_out)} (invoke audit lists them)"
        if self.kept_in == "object" and self.rules:
            yield NO_LIFECYCLE
        if self.kept_in == "unseen":
            yield f"this key may not look at the bucket's lifecycle rules ({_READ}): whether one would expire results is not known"


def get(settings: StoreSettings) -> Lifecycle:
    """Return the rules as they are; those of ours that were altered are named and not among ``rules``."""
    try:
        current = _ask(settings)
    except StoreError as error:
        if error.code not in DENIED:
            raise
        return Lifecycle("unseen", ())
    if current is None:
        return Lifecycle("object", _read_object(settings))
    ours = [rule for rule in current if _is_ours(rule) and rule.get("ID") != DEFAULT["ID"]]
    declared = tuple(sorted((from_wire(rule) for rule in ours if not altered(rule)), key=lambda rule: rule.id))
    result = _as_lifecycle(declared, [rule for rule in current if not _is_ours(rule)])
    return replace(result, altered=tuple(sorted(from_wire(rule).id for rule in ours if altered(rule))))


def put(
    settings: StoreSettings, rules: Sequence[Rule], *,
    before: Collection[str] = (), others: Sequence[Rule] = (), default: bool = True, pause: Callable[[float], None] = time.sleep,
) -> Lifecycle:  # fmt: skip
    """Let these rules stand, and those with an id of ``before`` no more; every other rule stays, whosever it is.

    ``others`` are the rules that other environments declare: what they say of an id of ``before`` stands from now on. The
    default rule is put beside where nobody's says otherwise, unless ``default`` is off; it stays as long as the bucket.
    A store that takes no word on open uploads gets the rules without it, and ``left_out`` names them.
    Raises StoreError when the store does not keep them as they were sent, or this key may not declare any.
    """
    ordered, gone = tuple(sorted(rules, key=lambda rule: rule.id)), set(before) - {rule.id for rule in rules}
    change = _Change(ordered, frozenset(gone), tuple({rule.id: rule for rule in others if rule.id in gone}.values()), default)
    try:
        current = _ask(settings)
    except StoreError as error:
        if error.code not in DENIED:
            raise
        if ordered or gone:
            hint = "Give the key these rights, or declare no rules (`trainyard:lifecycle: []`)."
            raise StoreError(f"lifecycle of {settings.url}: this key lacks {_READ} ({error.code})", hint=hint, code=error.code) from None
        return Lifecycle("unseen", ())
    if current is None:
        _put_object(settings, change)
        return Lifecycle("object", ordered)
    return _put(settings, change, current, pause)


@dataclass(frozen=True, slots=True)
class _Change:
    """The rules that shall stand, the ids that shall not, and what others say of these."""

    rules: tuple[Rule, ...]
    gone: frozenset[str]
    restored: tuple[Rule, ...]
    default: bool

    @property
    def touched(self) -> set[str]:
        """The ids of all rules that may be another thing afterwards."""
        return {rule.id for rule in self.rules} | self.gone


def _put_object(settings: StoreSettings, change: _Change) -> None:
    try:
        current = _read_object(settings)
    except StoreError as error:
        if error.code != DAMAGED:
            raise
        current = None
    stay = [rule for rule in current or () if rule.id not in change.touched]
    target = [*stay, *change.rules, *change.restored]
    if current is None or set(target) != set(current):
        put_proven(settings, OBJECT, as_document(target))


def _put(settings: StoreSettings, change: _Change, current: Sequence[Mapping[str, Any]], pause: Callable[[float], None]) -> Lifecycle:
    ids = {OURS + identity for identity in change.touched} | {str(DEFAULT["ID"])}
    ordered, stay = (*change.rules, *change.restored), [rule for rule in current if rule.get("ID") not in ids]
    target = stay + [to_wire(rule) for rule in ordered]
    dropped = any(rule.get("AbortIncompleteMultipartUpload") for rule in target)
    with_default = change.default or any(rule.get("ID") == DEFAULT["ID"] for rule in current)
    more = [DEFAULT] if with_default and settings.kind in _DROPS_UPLOADS and not dropped else []
    # The next best first: a store may know no such rule, and a key that may declare none keeps nobody from a bucket for
    # which nobody declared one.
    fewer = tuple(rule for rule in map(without_aborts, ordered) if rule)
    ways = [(target + more, ordered), *([(target, ordered)] if more else [])]
    if fewer != ordered and settings.kind not in _DROPS_UPLOADS:
        ways.append((stay + [to_wire(rule) for rule in fewer], fewer))
    for number, (way, standing) in enumerate(ways):
        try:
            kept = _make(settings, current, way, [other for other, _ in ways[number:]], pause)
        except StoreError as error:
            if number + 1 == len(ways) or error.passing:
                raise
            continue
        standing = next(rules for other, rules in ways if normal(other) == normal(kept))
        left = tuple(rule.id for rule in change.rules if rule not in standing)
        ours = tuple(rule for rule in standing if rule.id not in change.gone)
        return replace(_as_lifecycle(ours, [rule for rule in stay if not _is_ours(rule)]), left_out=left)
    raise AssertionError("unreachable")


def _make(
    settings: StoreSettings,
    current: Sequence[Mapping[str, Any]],
    target: Sequence[Mapping[str, Any]],
    accepted: Sequence[Sequence[Mapping[str, Any]]],
    pause: Callable[[float], None],
) -> Sequence[Mapping[str, Any]]:
    """Write rules where they are not there yet; returns which of those that are ``accepted`` the store keeps."""
    if normal(target) == normal(current):
        return target
    _write(settings, target)
    return _await(settings, target, accepted, pause)


def _as_lifecycle(ours: tuple[Rule, ...], foreign: Sequence[Mapping[str, Any]]) -> Lifecycle:
    names = tuple(sorted(str(rule.get("ID", "")) for rule in foreign))
    return Lifecycle("store", ours, names, tuple(sorted(str(rule.get("ID", "")) for rule in foreign if expiring(rule))))


def _is_ours(rule: Mapping[str, Any]) -> bool:
    return str(rule.get("ID", "")).startswith(OURS)


def _ask(settings: StoreSettings) -> list[Mapping[str, Any]] | None:
    """Return the store's rules, None when it has no lifecycle.

    Always asked before anything is written: a server that ignores the sub-resource takes a PUT for a new bucket and
    a DELETE for the end of the bucket. Such a server answers this GET with 200 and no rules.
    """
    if not settings.lifecycle:
        return None
    with store_errors(f"lifecycle of {settings.url}", 404, *_UNSUPPORTED) as refusal:
        answer = s3(settings).get_bucket_lifecycle_configuration(Bucket=settings.bucket)
    if refusal.code == "NoSuchLifecycleConfiguration":
        return []
    if refusal.status == 404:
        raise StoreError(f"lifecycle of {settings.url}: the store answered {refusal.code}")
    if refusal or "Rules" not in answer:
        return None
    rules: list[Mapping[str, Any]] = answer["Rules"]
    return rules


def _write(settings: StoreSettings, target: Sequence[Mapping[str, Any]]) -> None:
    with store_errors(f"lifecycle of {settings.url}"):
        if target:
            s3(settings).put_bucket_lifecycle_configuration(Bucket=settings.bucket, LifecycleConfiguration={"Rules": list(target)})
        else:
            s3(settings).delete_bucket_lifecycle(Bucket=settings.bucket)


def _await(
    settings: StoreSettings,
    target: Sequence[Mapping[str, Any]],
    accepted: Sequence[Sequence[Mapping[str, Any]]],
    pause: Callable[[float], None],
) -> Sequence[Mapping[str, Any]]:
    """Read back until the store gives what was sent, or what of it it is known to drop; returns which."""
    waited, pauses = 0.0, Backoff(0.5, 15.0).pauses()
    while True:
        current = normal(_ask(settings) or [])
        for rules in accepted:
            if current == normal(rules):
                return rules
        if waited >= _PATIENCE:
            expected = normal(target)
            wrong = sorted(key for key in expected.keys() | current.keys() if expected.get(key) != current.get(key))
            raise StoreError(f"lifecycle of {settings.url}: the store does not keep what was sent; it differs in: {', '.join(wrong)}")
        step = next(pauses)
        pause(step)
        waited += step


def _read_object(settings: StoreSettings) -> tuple[Rule, ...]:
    body = read(settings, OBJECT)
    if body is None:
        return ()
    try:
        return in_document(body)
    except ValueError as error:
        raise StoreError(
            f"{settings.url}/{OBJECT}: this holds no lifecycle rules ({error})",
            hint="`invoke up` writes the declared rules anew.",
            code=DAMAGED,
        ) from None
