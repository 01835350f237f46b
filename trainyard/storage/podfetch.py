"""Bring objects onto a pod: by presigned requests that the pod carries out, out of the mounted bucket, or over SSH.

Knows nothing of runs, data and checkpoints: files are named by where their bytes are in the bucket, and each gets its
name on the pod only with the announced sha256. Calling again after a cut or a kill goes on with what has arrived.
"""

from __future__ import annotations

import functools
import json
import posixpath
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trainyard.batches import batches
from trainyard.errors import HostKeyChanged, PodCannotUpload, PodFailed, StoreError, Unreachable
from trainyard.remote.protocol import Transport
from trainyard.retries import LINK, STORE
from trainyard.storage import mounted
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import DeliveryPatience, OnProgress, Progress, silent
from trainyard.storage.podorders import NO_PYTHON, Event, carry_out
from trainyard.storage.podside import FinishedPod
from trainyard.storage.podtargets import PodTarget, StoredObject, bound_to, place_of
from trainyard.storage.signing import signed_url
from trainyard.storage.sshfetch import over_ssh

URL_SECONDS = 2 * 3600
"""Life of a URL; a new order has new ones."""
LINK_PATIENCE = 300.0
"""Seconds of pauses after which a lost link is given up; a transport that connects anew is what makes waiting of use."""
ROUNDS = 6
"""Orders in a row, without any progress, after which it is given up."""
FILES = 10_000
"""Files of one order: the pod needs about 2 KB for each."""

Road = Literal["store", "volume", "ssh"]


@dataclass(slots=True)
class PodFetch:
    """What came of it: the sha256 of each file by path, the bytes that travelled, and how."""

    road: Road
    sha256: dict[str, str] = field(default_factory=dict)
    moved: int = 0
    kept: int = 0
    """Files that lay there already."""


def fetch_to_pod(
    settings: StoreSettings | None,
    transport: Transport,
    folder: str,
    targets: Sequence[PodTarget],
    *,
    on_progress: OnProgress = silent,
    volume: str | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> PodFetch:
    """Return when every target lies below ``folder`` on the pod, each proven by its sha256.

    ``settings`` None: all of them are of the web. ``volume`` is where the bucket is mounted on the pod. Where the pod cannot
    reach the bytes by itself they go over SSH.
    Raises PodFailed when the pod's disk is full, StoreError when an object is missing, changed, or not what was announced,
    or the store does not answer for long; Unreachable when the link stays lost.
    """
    road: Road = "store" if settings is None or settings.presign else "volume" if volume else "ssh"
    if (
        road == "volume"
        and any(target.sha256 is None for target in targets)
        and not _is_mounted(settings, transport, folder, volume, pause)
    ):
        road = "ssh"  # what nobody has read is proven by nothing but where it lies
    fetched = PodFetch(road)
    total, done = sum(target.size for target in targets), 0
    orders = list(batches(targets, FILES))
    for number, batch in enumerate(orders):
        order = _Order(settings, transport, folder, batch, volume, number + 1 == len(orders))
        tally = functools.partial(_tell, on_progress, done, total)
        if fetched.road == "ssh" or not _carried_out(order, fetched, tally, pause):
            fetched.road = "ssh"
            sent = over_ssh(settings, transport, folder, batch, tally)
            fetched.sha256 |= sent.sha256
            fetched.moved += sent.moved
            fetched.kept += sent.kept
        done += sum(target.size for target in batch)
    return fetched


def _is_mounted(
    settings: StoreSettings | None, transport: Transport, folder: str, volume: str | None, pause: Callable[[float], None]
) -> bool:
    assert settings is not None and volume is not None
    try:
        mounted.prove_mounted(settings, FinishedPod(transport, folder), volume, DeliveryPatience(pause=pause))
    except PodCannotUpload:
        return False
    return True


def _tell(on_progress: OnProgress, before: int, total: int, done: int, text: str) -> None:
    on_progress(Progress("fetch", before + done, total, text))


@dataclass(frozen=True, slots=True)
class _Order:
    """A batch on its way to a pod."""

    settings: StoreSettings | None
    transport: Transport
    folder: str
    targets: Sequence[PodTarget]
    volume: str | None
    last: bool

    def encode(self) -> bytes:
        """Return it as the pod's program reads it, its URLs signed now."""
        return encode_order(self.settings, self.folder, self.targets, self.volume, last=self.last)


def encode_order(
    settings: StoreSettings | None,
    folder: str,
    targets: Sequence[PodTarget],
    volume: str | None = None,
    *,
    last: bool = True,
    most: float = URL_SECONDS,
) -> bytes:
    """Return an order as the pod's fetcher reads it, with URLs that are signed now and live ``most`` seconds at most."""
    numbers: dict[StoredObject, int] = {}
    files = []
    for target in targets:
        extents = [[numbers.setdefault(e.source, len(numbers)), e.offset, e.length, e.crc32] for e in target.extents]
        bound = "" if target.sha256 else "".join(f"{e.source.key} {e.source.etag} {e.source.version}\n" for e in target.extents[:1])
        entry = {"path": target.path, "size": target.size, "sha256": target.sha256, "bound": bound, "extents": extents}
        files.append(entry | ({"mode": 0o755} if target.executable else {}))
    sources = [_source(settings, source, volume, most) for source in numbers]
    return json.dumps({"folder": folder, "sources": sources, "files": files, "last": last}).encode()


def _source(settings: StoreSettings | None, source: StoredObject, volume: str | None, most: float) -> dict[str, Any]:
    if settings is None:
        return {"url": source.key}
    if not settings.presign:
        return {"path": posixpath.join(volume or "", source.key)}
    bound = bound_to(settings, source)
    url = signed_url(settings, "get_object", bound, most=most)
    return {"url": url, "headers": {"If-Match": bound["IfMatch"]} if "IfMatch" in bound else {}}


@dataclass(slots=True)
class _Outcome:
    """What the pod said of one order."""

    sha256: dict[int, str] = field(default_factory=dict)
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)
    refused: int = 0
    """How many of those the store will not give, whoever asks: unless a URL was over, and the next order has new ones."""
    kept: int = 0
    done: int = 0
    moved: int = 0
    ended: bool = False


def _carried_out(order: _Order, fetched: PodFetch, tally: Callable[[int, str], None], pause: Callable[[float], None]) -> bool:
    """Let the pod fetch in rounds, with new URLs each; False when it cannot do it by itself."""
    best, quiet = -1, 0
    while True:
        outcome = _linked(order, tally, pause)
        if outcome is None:
            return False
        fetched.moved += outcome.moved
        if not outcome.failed:
            fetched.sha256 |= {order.targets[number].path: digest for number, digest in outcome.sha256.items()}
            fetched.kept += outcome.kept
            return True
        if order.settings and not order.settings.presign and any(code == "NoSuchKey" for code, _ in outcome.failed.values()):
            return False  # what is mounted there is another bucket, or the file has not come through yet
        _refuse_definite(order, outcome)
        quiet = 0 if outcome.done > best else quiet + 1
        best = max(best, outcome.done)
        if quiet and not fetched.moved and all(code == "Network" for code, _ in outcome.failed.values()):
            return False  # it has had two orders and no store: what can be reached from here goes over SSH
        lies = all(code == "Damaged" for code, _ in outcome.failed.values())
        refused = outcome.refused == len(outcome.failed)
        final = lies or refused
        if refused and quiet and not fetched.moved:
            return False  # a store that takes no signed URLs, whatever is known of its kind
        if quiet >= (1 if final else ROUNDS):
            code = min(outcome.failed.items())[1][0] if final else ""
            raise StoreError(f"not fetched to the pod: {_listed(order, outcome)}", hint=_HINT, passing=not final, code=code)
        pause(STORE.pause(quiet + 1))


_HINT = "What has arrived is kept: the same command goes on with it."
DEFINITE = {
    "NoSuchKey": "it is not in the bucket",
    "404": "it is not there",
    "410": "it is not there",
    "PreconditionFailed": "it was changed since it was looked at",
    "412": "it was changed since it was looked at",
    "NoSuchVersion": "this version of it is gone",
    "InvalidRange": "it is shorter than it was",
    "416": "it is shorter than it was",
}
"""What a store's word says of an object itself; no other try changes it."""


def _refuse_definite(order: _Order, outcome: _Outcome) -> None:
    """Raise for what no other round mends."""
    for number, (code, message) in sorted(outcome.failed.items()):
        if code == "NoSpace":
            raise PodFailed(f"{order.transport.name}: its disk is full: {message}", hint="Ask for more: trainyard:disk_gb in the settings.")
        if code == "Disk":
            raise PodFailed(f"{order.transport.name}: {order.targets[number].path} cannot be written: {message}")
        if code in DEFINITE:
            target = order.targets[number]
            raise StoreError(f"{target.path}, from {place_of(order.settings, target)}: {DEFINITE[code]}", code=code)


def _listed(order: _Order, outcome: _Outcome) -> str:
    shown = [f"{order.targets[number].path} ({code}: {message})" for number, (code, message) in sorted(outcome.failed.items())[:5]]
    more = f" and {len(outcome.failed) - 5} more" if len(outcome.failed) > 5 else ""
    return "; ".join(shown) + more


def _linked(order: _Order, tally: Callable[[int, str], None], pause: Callable[[float], None]) -> _Outcome | None:
    """Let the pod fetch, once more after a lost link: an order that has run already finds its files there."""
    waited, pauses = 0.0, LINK.pauses()
    while True:
        try:
            return _ask(order, tally)
        except HostKeyChanged:
            raise
        except Unreachable:
            if waited >= LINK_PATIENCE:
                raise
            tally(0, "no link to the pod, waiting for it")
            step = next(pauses)
            waited += step
            pause(step)


def _ask(order: _Order, tally: Callable[[int, str], None]) -> _Outcome | None:
    """Let the pod carry out an order; None when it has no Python."""
    outcome = _Outcome()
    done = carry_out(order.transport, "fetch", order.encode(), lambda event: _note(outcome, event, tally))
    if done.rc == NO_PYTHON:
        return None
    if done.rc not in (0, 1) or not outcome.ended:
        raise StoreError(f"the fetcher on the pod ended with {done.rc}: {done.error_text}", passing=True)
    for number in range(len(order.targets)):
        if number not in outcome.sha256:
            outcome.failed.setdefault(number, ("Unfinished", "the fetcher did not get to it"))
    return outcome


def _note(outcome: _Outcome, event: Event, tally: Callable[[int, str], None]) -> None:
    kind = event.get("event")
    if kind == "file":
        outcome.sha256[int(event["id"])] = str(event["sha256"])
        outcome.kept += bool(event["kept"])
    elif kind == "failed":
        outcome.failed[int(event["id"])] = (str(event["code"]), str(event["message"]))
        outcome.refused += bool(event.get("refused"))
    elif kind in ("progress", "done"):
        outcome.done, outcome.moved, outcome.ended = int(event["done"]), int(event.get("moved", 0)), kind == "done"
        tally(outcome.done, "the pod fetches from the bucket")
