"""Try a bucket before anything is rented: do with small objects what a commit, its proof and its claim rely on.

What the pod sends goes through the pod's own code (signed URL, signed headers, http.client). Every action has a verdict of
its own, as data. Whoever asks for a report that was good within the last hour gets that one: it is kept by a hash of
credentials, endpoint and bucket, so a changed key is asked anew, and a failure is never kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainyard.errors import StoreError, UserError
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.storage.actions import ACTIONS
from trainyard.storage.answers import BAD_KEYS, DENIED, UNKNOWN_HERE, hint_for, store_errors
from trainyard.storage.client import Checksums, StoreSettings, s3
from trainyard.storage.trial import CANARY, Check, Trial, trial

HOUR = 3600.0
_VERSION = 1
_KEPT_FOR = 30 * 24 * HOUR


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a canary has seen of a bucket with a key. ``at``: epoch seconds; ``seconds``: how long it took."""

    url: str
    kind: str
    endpoint: str | None
    checks: tuple[Check, ...]
    checksums: Checksums
    conditional: bool
    presign: bool
    at: float
    seconds: float
    removed: int = 0
    """Objects and uploads of earlier canaries, cut off, that this one has removed."""

    @property
    def failures(self) -> tuple[Check, ...]:
        """What is needed and was not there: nothing may be rented."""
        return tuple(check for check in self.checks if check.verdict != "ok" and check.needed)

    @property
    def degraded(self) -> tuple[Check, ...]:
        """What is not there and can be done without."""
        return tuple(check for check in self.checks if check.verdict not in ("ok", "untried") and not check.needed)


def check(settings: StoreSettings, *, fresh: bool = False, now: Callable[[], float] = time.time) -> StoreReport:
    """Return what the bucket can do with this key; a good report of the last hour is returned again unless ``fresh``.

    Raises UserError where no bucket is named, StoreError where the store does not know this machine's key or clock,
    or does not answer.
    """
    if not settings.bucket:
        raise UserError("no bucket is named", hint="Set `trainyard:bucket: NAME` in the stack's settings.")
    kept = None if fresh else _kept(settings, HOUR, now())
    if kept is not None:
        return kept
    report = _ask(settings, now)
    if not report.failures:
        _keep(settings, report)
        report = replace(report, removed=_cleared(settings, report))
    return report


def _cleared(settings: StoreSettings, report: StoreReport) -> int:
    """Remove what canaries have left that were cut off; where this key may not, they stay for `gc` and the rule of tmp/."""
    from trainyard.storage import leftovers  # it lists by bucket.py, which asks a canary

    if report.degraded:
        return 0
    with contextlib.suppress(StoreError):
        return leftovers.clear(settings, report.at)
    return 0


def require(settings: StoreSettings, *, stack: str | None = None, now: Callable[[], float] = time.time) -> StoreReport:
    """Return the report of a bucket that can hold results; raises StoreError, which says what is missing and what to do.

    ``stack``: whose bucket it is, where that is known; the error names the command that shows all of it.
    """
    report = check(settings, now=now)
    if report.failures:
        raise refusal_of(settings, report, stack)
    return report


def believed(settings: StoreSettings) -> None:
    """Raise StoreError where the store does not take this key or clock, or does not answer; a bucket is not needed."""
    with store_errors(settings.kind, *DENIED, *BAD_KEYS, *UNKNOWN_HERE, "404") as refusal:
        s3(settings).list_buckets()
    if refusal.code in BAD_KEYS:
        sentence = f"the store does not accept this key ({refusal.code}); nothing was changed"
        raise StoreError(sentence, hint=hint_for(refusal.code), code=refusal.code)


def probed(settings: StoreSettings) -> StoreSettings:
    """Return the settings with what an unknown store can do filled in by a canary; known stores are returned as they are."""
    if settings.checksums != "probe":
        return settings
    report = _kept(settings, _KEPT_FOR, time.time()) or require(settings)
    return replace(settings, checksums=report.checksums, conditional=report.conditional, presign=settings.presign and report.presign)


def use(check: Check) -> str:
    """Return in words what rests on an action."""
    return ACTIONS[check.name].use


def loss(check: Check) -> str:
    """Return in words what is lost where an action that can be done without does not work."""
    return ACTIONS[check.name].without


def refusal_of(settings: StoreSettings, report: StoreReport, stack: str | None = None) -> StoreError:
    """Return the error that says why a bucket cannot hold results: nobody's word, nobody's right, or the store's own lack."""
    failures = [one for one in report.failures if one.verdict != "untried"]
    where, code = f"bucket '{settings.bucket}'", failures[0].code
    whole = f"All of it: invoke store.check --stack {stack}. " if stack else ""
    hint = f"{whole}The smallest policy of each store: docs/stores.md."
    silent = [one for one in failures if one.verdict == "silent"]
    if silent:
        return StoreError(f"canary in {settings.url}: {silent[0].says}", code=silent[0].code, hint=hint, passing=True)
    denied = [one for one in failures if one.verdict == "refused"]
    if denied and not any(one.verdict == "ok" for one in report.checks if one.right):
        said = f"{where} exists, but this key may not use it ({code}){_whose(settings)}; nothing was changed"
        return StoreError(said, hint=f"Choose another bucket with `trainyard:bucket: NAME`, or give the key its rights. {hint}", code=code)
    if denied:
        rights = ", ".join(dict.fromkeys(right for one in denied for right in one.right.split()))
        names = ", ".join(one.name for one in denied)
        return StoreError(f"{where}: this key lacks {rights} (tried: {names}); nothing was changed", hint=hint, code=code)
    first = failures[0]
    return StoreError(f"canary in {settings.url}: {first.name}: {first.says}", hint=hint_for(first.code) or hint, code=code)


def _ask(settings: StoreSettings, now: Callable[[], float]) -> StoreReport:
    began, clock = now(), time.monotonic()
    _believed(settings)
    unknown = settings.checksums == "probe"
    modes: tuple[Checksums, ...] = ("full",) if unknown else (settings.checksums,)
    name = f"{CANARY}{secrets.token_hex(8)}"
    tried = [_try(settings, name, modes[0], unknown)]
    if unknown and tried[0].failed:  # most stores know the best one: the others are asked only where it fails
        modes = ("full", "composite", "none")
        with ThreadPoolExecutor(2) as pool:
            tried += pool.map(lambda mode: _try(settings, name, mode, unknown), modes[1:])
    best = next((one for one in tried if not one.failed), _most(tried))
    mode = modes[tried.index(best)]
    return StoreReport(
        settings.url, settings.kind, settings.endpoint, best.checks, mode, best.is_ok("conditional write"), settings.presign
        and best.is_ok("signed URL"), began, round(time.monotonic() - clock, 3),
    )  # fmt: skip


def _try(settings: StoreSettings, name: str, mode: Checksums, unknown: bool) -> Trial:
    return trial(replace(settings, checksums=mode), f"{name}-{mode}", unknown=unknown)


def _believed(settings: StoreSettings) -> None:
    """Raise StoreError for a key or clock that the store does not take, and for a store that does not answer: one sentence, not fifteen."""
    what = f"bucket '{settings.bucket}'"
    with store_errors(what, *DENIED, *BAD_KEYS, "NotImplemented", "MethodNotAllowed", "404", "NoSuchBucket") as refusal:
        s3(settings).list_objects_v2(Bucket=settings.bucket, MaxKeys=1, Prefix="tmp/")
    if refusal.code in BAD_KEYS:
        sentence = f"{what}: the store does not accept this key ({refusal.code}); nothing was changed"
        raise StoreError(sentence, hint=hint_for(refusal.code), code=refusal.code)
    if refusal.status == 404:
        raise StoreError(f"{what} is not there ({refusal.code})", hint=hint_for("NoSuchBucket"), code=refusal.code)


def _most(tried: list[Trial]) -> Trial:
    """Return the trial that got farthest: its refusals are those that a person can do something about."""
    return max(tried, key=lambda one: sum(check.verdict == "ok" for check in one.checks))


def _whose(settings: StoreSettings) -> str:
    """Return in words whose bucket it is, where the store tells this key which are its own."""
    try:
        buckets = [one["Name"] for one in s3(settings).list_buckets().get("Buckets", [])]
    except Exception:  # this only adds to an error that is told anyway
        return ": it is somebody else's, or the key has no right in it"
    if settings.bucket in buckets:
        return ": it is this account's, but the key has no right in it"
    return ": it is none of this account's buckets, so it is somebody else's"


def _file(settings: StoreSettings) -> Path | None:
    token = settings.session_token.reveal() if settings.session_token else ""
    keys = (settings.access_key.reveal(), settings.secret_key.reveal(), token)
    identity = json.dumps([_VERSION, settings.kind, settings.endpoint, settings.region, settings.bucket, *keys])
    return settings.memory and settings.memory / f"{hashlib.sha256(identity.encode()).hexdigest()[:40]}.json"


def _keep(settings: StoreSettings, report: StoreReport) -> None:
    path = _file(settings)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in path.parent.glob("*.json"):
        if old.stat().st_mtime < time.time() - _KEPT_FOR:
            old.unlink(missing_ok=True)
    write_atomic(path, json.dumps(asdict(report)), durable=False, mode=0o600)


def _kept(settings: StoreSettings, most: float, now: float) -> StoreReport | None:
    path = _file(settings)
    try:
        content = parse_json(path.read_text(encoding="utf-8")) if path else None
        if content is None or not 0 <= now - float(content["at"]) < most:
            return None
        return StoreReport(**{**content, "checks": tuple(Check(**one) for one in content["checks"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none was kept, or by another version: it is asked again
