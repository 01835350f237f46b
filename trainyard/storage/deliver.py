"""Bring files from a pod, or from this machine, into the bucket and prove each one, in rounds, until all are proven.

A round: ask the store what is there; plan what is missing; let the pod send; complete; ask again. A store that
says 200 and holds nothing, a dropped connection, an expired URL and a killed controller are all the same case:
the next round starts from what the store really has.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from trainyard.errors import PodCannotUpload, StoreError
from trainyard.retries import STORE
from trainyard.storage import objects, podside
from trainyard.storage.answers import is_passing, store_errors
from trainyard.storage.bucket import keys_below
from trainyard.storage.client import THREADS, StoreSettings, s3
from trainyard.storage.objects import PendingUpload, Proof, UploadTarget
from trainyard.storage.versions import make_way

A = TypeVar("A")
B = TypeVar("B")

SENDERS = 8
MANY = 8
"""Above so many files one listing saves a question for each of them."""
SAMPLE = 64 * 1024
SAMPLED_FILES = 24


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a commit or a download is."""

    stage: str
    done: int
    total: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryPatience:
    """How long to go on: rounds of plan and proof, tries of one request by the pod, and how to wait between them."""

    rounds: int = 5
    tries: int = 6
    backoff: float = 0.5
    pause: Callable[[float], None] = time.sleep


OnProgress = Callable[[Progress], None]
OnBytes = podside.OnBytes
OnWhole = Callable[[PendingUpload], None]
"""May be called, once, when every part of an upload is stored, while others are being sent; it returns at once."""


def silent(_: Progress) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class SendOrder:
    """What a carrier is to send: the works with what is left of each, and the files whose sha256 it is to take."""

    settings: StoreSettings
    works: Sequence[PendingUpload]
    unhashed: Sequence[UploadTarget]
    patience: DeliveryPatience
    on_bytes: OnBytes
    on_whole: OnWhole


class Carrier(Protocol):
    """Whoever holds the files of a result: the pod, or this machine."""

    def send(self, order: SendOrder) -> SendReport:
        """Send what is left of each work, and take the sha256 of the files that have none yet."""

    def sample(self, ranges: Sequence[podside.Range]) -> list[str]:
        """Return the sha256 of ranges (path, offset, length) of files."""


@dataclass(slots=True)
class SendReport:
    """Why targets did not make it, by key, whether all of that may be the moment's fault, and the sha256 of files by their place."""

    reasons: dict[str, str] = field(default_factory=dict)
    passing: bool = True
    hashes: dict[str, str] = field(default_factory=dict)
    changed: bool = False
    """A file is not the one that was scanned: sending it again is of no use."""

    def add(self, key: str, why: str, *, passing: bool) -> None:
        """Add a reason; the first one of a key stands."""
        if key not in self.reasons:
            self.reasons[key] = why
            self.passing = self.passing and passing


def deliver(
    settings: StoreSettings, carrier: Carrier, targets: Sequence[UploadTarget], on_progress: OnProgress, patience: DeliveryPatience
) -> Mapping[str, str]:
    """Return when every target is proven to be in the bucket; raises StoreError when the store fails or lies for good.

    Returns the sha256 of the files whose entries have none, by their place: it is taken while they are sent.
    """
    total = sum(target.entry.size for target in targets)
    suspect: set[str] = set()
    hashes: dict[str, str] = {}
    report = SendReport()
    for round_ in range(patience.rounds):
        if round_:
            patience.pause(STORE.pause(round_))
        proofs = _proofs(settings, targets, listed=round_ == 0 and len(targets) > MANY)
        to_send = [t for t in targets if proofs[t.key] != "there" or t.key in suspect]
        unhashed = [t for t in targets if not t.entry.sha256 and t.source not in hashes]
        if to_send or unhashed:
            done = total - sum(target.entry.size for target in to_send)
            # A later round does not insist on an empty place: VersityGW takes a delete marker for an object (412).
            fresh = {t.key for t in to_send if proofs[t.key] == "absent" and round_ == 0}
            report = _round(settings, carrier, to_send, unhashed, fresh, patience, _counting(on_progress, done, total))
            proofs = _proofs(settings, to_send, listed=False)
            # A hash taken while a file was sent is of these bytes only where the store has proven them.
            unproven = {t.source for t in to_send if proofs[t.key] != "there"}
            hashes |= {source: digest for source, digest in report.hashes.items() if source not in unproven}
            _forget_dead(settings, to_send, proofs, report)
        if all(proofs[t.key] == "there" for t in to_send) and all(t.source in hashes for t in unhashed):
            on_progress(Progress("verify", total, total, "reading samples back"))
            suspect = wrong_samples(settings, carrier, targets, SAMPLED_FILES)
            if not suspect:
                return hashes
            report = SendReport(dict.fromkeys(suspect, "what the store gives back is not what was sent"), passing=False)
        elif report.changed:
            break
    hint = "What has arrived is kept: the same command goes on with it."
    code = "Changed" if report.changed else ""
    raise StoreError(f"not committed: {tell(report.reasons)}", hint=hint, code=code, passing=report.passing)


def _proofs(settings: StoreSettings, targets: Sequence[UploadTarget], *, listed: bool) -> dict[str, Proof]:
    """Ask the store for each target. With ``listed`` what no listing shows counts as absent: at worst it is sent again."""
    proofs: dict[str, Proof] = dict.fromkeys((target.key for target in targets), "absent")
    if listed:
        folders = {"/".join(target.key.split("/")[:4]) + "/" for target in targets}
        there = keys_below(settings, folders)
        targets = [target for target in targets if there is None or target.key in there]
    return proofs | dict(zip((t.key for t in targets), each(lambda t: objects.proof(settings, t), targets), strict=True))


def _counting(on_progress: OnProgress, base: int, total: int) -> Callable[[int], None]:
    return lambda sent: on_progress(Progress("upload", base + sent, total, "sending the result to the bucket"))


def _round(
    settings: StoreSettings,
    carrier: Carrier,
    to_send: Sequence[UploadTarget],
    unhashed: Sequence[UploadTarget],
    fresh: set[str],
    patience: DeliveryPatience,
    on_bytes: Callable[[int], None],
) -> SendReport:
    """Send, hash and complete; returns why a target may not have made it."""
    # Something else (or something that reads back wrong) under the key is replaced, never taken for ours.
    each(lambda t: make_way(settings, t.key), [t for t in to_send if t.key not in fresh])
    works = each(lambda t: objects.open_work(settings, t, replace=t.key not in fresh), to_send)
    # Complete copies the object on some stores: that of a file runs while the next ones are sent.
    with ThreadPoolExecutor(THREADS) as pool:
        completing: dict[str, Future[None]] = {}

        def complete(work: PendingUpload) -> None:
            completing[work.target.key] = pool.submit(objects.complete, settings, work)

        report = carrier.send(SendOrder(settings, works, unhashed, patience, on_bytes, complete))
        for work in works:
            if work.upload_id is not None and work.target.key not in {*completing, *report.reasons}:
                complete(work)
    for one in completing.values():
        one.result()
    return report


@dataclass(frozen=True, slots=True)
class OfPod:
    """The pod sends its files itself, by bound requests."""

    pod: podside.FinishedPod
    threads: int = SENDERS
    nice: int = 0

    def send(self, order: SendOrder) -> SendReport:
        """Let the pod carry out a plan."""
        items: list[dict[str, Any]] = []
        owner: dict[int, PendingUpload] = {}
        for work in order.works:
            for item in objects.requests(order.settings, work, len(items)):
                owner[item["id"]] = work
                items.append(item)
        stored = _WholeUploads(order.works, order.on_whole)
        before = sum(w.target.entry.size for w in order.works) - sum(item["length"] for item in items)
        to_hash = {target.source: target for target in order.unhashed}
        plan = {
            "items": items, "hash": [_to_hash(target) for target in to_hash.values()], "threads": self.threads,
            "tries": order.patience.tries, "backoff": order.patience.backoff, "nice": self.nice,
        }  # fmt: skip
        sent = podside.send(self.pod, plan, lambda n: order.on_bytes(before + n), lambda number: stored.note(owner[number]))
        if sent.failed and not sent.stored and all(f.get("code") == "Network" for f in sent.failed.values()):
            why = next(iter(sent.failed.values())).get("message")
            raise PodCannotUpload(f"the pod cannot reach the store at {order.settings.endpoint or 'AWS'}: {why}", passing=True)
        report = SendReport(hashes=sent.hashes)
        # That a file has changed says more than that the store refuses its parts.
        failures = [(to_hash[source].key, failed) for source, failed in sent.unhashed.items()]
        for key, failed in failures + [(owner[number].target.key, failed) for number, failed in sent.failed.items()]:
            code = str(failed.get("code"))
            changed = code == "Changed"  # it is scanned anew then
            report.changed = report.changed or changed
            passing = changed or code == "Network" or is_passing(code, int(failed.get("status") or 0))
            report.add(key, f"{code}: {failed.get('message', '')}", passing=passing)
        return report

    def sample(self, ranges: Sequence[podside.Range]) -> list[str]:
        """Let the pod hash ranges."""
        return podside.sample(self.pod, ranges)


class _WholeUploads:
    """Tells when all parts of an upload are stored; what has none left to send is told at once."""

    def __init__(self, works: Sequence[PendingUpload], on_whole: OnWhole) -> None:
        self.left = {work.upload_id: len(work.parts) for work in works if work.upload_id is not None}
        self.on_whole = on_whole
        for work in works:
            if work.upload_id is not None and not work.parts:
                on_whole(work)

    def note(self, work: PendingUpload) -> None:
        """Take note that one part of a work is stored."""
        if work.upload_id is not None:
            self.left[work.upload_id] -= 1
            if not self.left[work.upload_id]:
                self.on_whole(work)


def _to_hash(target: UploadTarget) -> dict[str, Any]:
    entry = target.entry
    return {"path": target.source, "size": entry.size, "part_size": entry.part_size, "parts": entry.parts}


def _forget_dead(settings: StoreSettings, to_send: Sequence[UploadTarget], proofs: Mapping[str, Proof], report: SendReport) -> None:
    """After a round, drop the uploads of what was completed and is not there: the store lied, and they cannot be gone on with."""
    for target in to_send:
        if proofs[target.key] == "there":
            continue
        if len(target.entry.parts) > 1 and target.key not in report.reasons:
            objects.drop_uploads(settings, target.key)
        report.add(target.key, "the store said 200, but does not hold it", passing=False)


def wrong_samples(settings: StoreSettings, carrier: Carrier, targets: Sequence[UploadTarget], most: int) -> set[str]:
    """Read samples of ``most`` files back from the store and return the keys whose bytes are wrong."""
    chosen = sorted(targets, key=lambda t: -t.entry.size)[: most // 2]
    keys = {t.key for t in chosen}  # comparing targets themselves takes a second for 10,000
    rest = [t for t in targets if t.key not in keys]
    chosen += random.sample(rest, min(len(rest), most - len(chosen)))
    asked = [(target, offset, length) for target in chosen for offset, length in _ranges(target.entry.size)]
    with ThreadPoolExecutor(1) as pool:  # the pod needs a moment, in which the store is read
        sampled = pool.submit(carrier.sample, [(t.source, offset, length) for t, offset, length in asked])
        have = each(lambda one: _range_sha256(settings, *one), asked)
        want = sampled.result()
    return {asked[i][0].key for i in range(len(asked)) if want[i] != have[i]}


def _ranges(size: int) -> list[tuple[int, int]]:
    """Return head, tail and a random middle of a file; all of a small one."""
    if size <= 3 * SAMPLE:
        return [(0, size)] if size else []
    return [(0, SAMPLE), (random.randrange(SAMPLE, size - 2 * SAMPLE), SAMPLE), (size - SAMPLE, SAMPLE)]


def _range_sha256(settings: StoreSettings, target: UploadTarget, offset: int, length: int) -> str:
    with store_errors(f"read back {settings.url}/{target.key}"):
        answer = s3(settings).get_object(Bucket=settings.bucket, Key=target.key, Range=f"bytes={offset}-{offset + length - 1}")
        return hashlib.sha256(answer["Body"].read()).hexdigest()


def each(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Call a function on every item, by threads; return the results in order."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))


def send_parts(order: SendOrder, send_part: Callable[[PendingUpload, int], None]) -> SendReport:
    """Send each part that is left, by threads, and count it when it has been sent; for a carrier that hashes nothing on the way."""
    jobs = [(work, number) for work in order.works for number in work.parts]
    sent = sum(w.target.entry.size for w in order.works) - sum(w.target.entry.part(number)[1] for w, number in jobs)
    lock = threading.Lock()

    def one(job: tuple[PendingUpload, int]) -> None:
        nonlocal sent
        work, number = job
        send_part(work, number)
        with lock:
            sent += work.target.entry.part(number)[1]
            order.on_bytes(sent)

    each(one, jobs)
    return SendReport()


def tell(reasons: Mapping[str, str]) -> str:
    """Return the first reasons as one text."""
    shown = [f"{key} ({reason})" for key, reason in sorted(reasons.items())[:5]]
    more = f" and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    return "; ".join(shown) + more
