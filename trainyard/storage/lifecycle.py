"""Lifecycle rules: ours are merged with those of others, compared in one normal form, and shown.

Stores rewrite rules (order, filters, defaults), so rules are compared as a map from ID to normal form, and only
rules with an ID of ours are ever changed. Where a store has no lifecycle (VersityGW, RunPod) the rules are kept
as an object in the bucket, which `invoke gc` (sweeper.py) carries out; ``Lifecycle.note`` says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainyard.errors import StoreError
from trainyard.jsontext import parse_json
from trainyard.retries import Backoff
from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.rules import OURS, Rule, expiring, from_wire, normal, to_wire
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


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The rules of a bucket: ours, and the IDs of others' rules that were left alone."""

    kept_in: Literal["store", "object"]
    rules: tuple[Rule, ...]
    foreign: tuple[str, ...] = ()
    dangerous: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """What a person must know about these rules."""
        if self.dangerous:
            return f"rules that are not ours would expire results in this bucket: {', '.join(self.dangerous)}"
        return NO_LIFECYCLE if self.kept_in == "object" and self.rules else None


def get(settings: StoreSettings) -> Lifecycle:
    """Return the rules as they are."""
    current = _ask(settings)
    if current is None:
        return Lifecycle("object", _read_object(settings))
    declared = (from_wire(rule) for rule in current if _is_ours(rule) and rule.get("ID") != DEFAULT["ID"])
    ours = tuple(sorted(declared, key=lambda rule: rule.id))
    return _as_lifecycle(ours, [rule for rule in current if not _is_ours(rule)])


def take_away(settings: StoreSettings) -> None:
    """Take the rules of ours away, the default one too."""
    put(settings, [], default=False)


def put(settings: StoreSettings, rules: Sequence[Rule], *, default: bool = True, pause: Callable[[float], None] = time.sleep) -> Lifecycle:
    """Make exactly these the rules of ours, and the default one where nobody's says otherwise; others' rules stay.

    Raises StoreError when the store does not keep them as they were sent.
    """
    ordered = tuple(sorted(rules, key=lambda rule: rule.id))
    current = _ask(settings)
    if current is None:
        if ordered != _read_object(settings):
            document = {"version": 1, "rules": [asdict(rule) for rule in ordered]}
            put_proven(settings, OBJECT, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode())
        return Lifecycle("object", ordered)
    foreign = [rule for rule in current if not _is_ours(rule)]
    target = foreign + [to_wire(rule) for rule in ordered]
    dropped = any(rule.get("AbortIncompleteMultipartUpload") for rule in target)
    more = [DEFAULT] if default and settings.kind in _DROPS_UPLOADS and not dropped else []
    if normal(target + more) != normal(current):
        try:
            _write(settings, target + more)
        except StoreError:
            if not more:
                raise
            more = []  # a key that may not declare any keeps nobody from a bucket for which nobody declared one
            if normal(target) != normal(current):
                _write(settings, target)
        if normal(target + more) != normal(current):
            _await(settings, target + more, pause)
    return _as_lifecycle(ordered, foreign)


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


def _await(settings: StoreSettings, target: Sequence[Mapping[str, Any]], pause: Callable[[float], None]) -> None:
    waited, pauses = 0.0, Backoff(0.5, 15.0).pauses()
    while True:
        current = normal(_ask(settings) or [])
        expected = normal(target)
        if current == expected:
            return
        if waited >= _PATIENCE:
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
        document = parse_json(body)
        return tuple(Rule(**rule) for rule in document["rules"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{settings.url}/{OBJECT}: this holds no lifecycle rules ({error})") from None
