"""Run the uploader on a pod: let it scan, send, copy and sample. Knows nothing of stores and keys."""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trainyard.errors import PodCannotUpload, StoreError, Unreachable
from trainyard.jsontext import parse_json
from trainyard.pod.podprogram import Verb
from trainyard.remote.protocol import CommandResult, Transport, quote
from trainyard.storage.manifest import PART_SIZE, RESERVED, Keep
from trainyard.storage.podorders import NO_PYTHON, Event, carry_out

_UNFINISHED = {"code": "Unfinished", "message": "the uploader did not get to it"}
Range = tuple[str, int, int]
OnBytes = Callable[[int], None]
ScannedFiles = Mapping[str, Mapping[str, Any]]
"""Files with hashes and fingerprint, as the pod tells them, by their path."""


@dataclass(frozen=True, slots=True)
class FinishedPod:
    """A pod after a training. ``root`` is the output folder as the pod sees it, without a '/' at its end."""

    transport: Transport
    root: str


@dataclass(slots=True)
class PlanOutcome:
    """What became of a plan."""

    stored: set[int] = field(default_factory=set)
    failed: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    """The sha256 of files, by where they lie on the pod."""
    unhashed: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def scan(
    pod: FinishedPod,
    outputs: Sequence[str],
    excludes: Sequence[str],
    extra: Mapping[str, str],
    *,
    keep: Keep | None = None,
    md5: bool = False,
    part_size: int = PART_SIZE,
    sha256_up_to: int | None = None,
    known: ScannedFiles | None = None,
    nice: int = 0,
) -> Mapping[str, Any]:
    """Return the scan of the output folder; ``extra`` are further files by the name they shall get.

    With ``keep`` the newest complete checkpoint is part of it. Files above ``sha256_up_to`` bytes have no sha256: it is
    taken while they are sent. ``known`` are files of earlier scans by their path; what has not changed is not hashed again.
    """
    spec = {
        "root": pod.root,
        "outputs": list(outputs),
        "excludes": list(excludes),
        "extra": [{"name": name, "path": path} for name, path in extra.items()],
        "part_size": part_size,
        "md5": md5,
        "keep": keep is not None,  # then even a missing folder is no error: the logs are kept
        "checkpoints": {"pattern": keep.checkpoints, "mark": keep.mark} if keep and keep.checkpoints else None,
        "reserved": sorted(RESERVED),
        "sha256_up_to": sha256_up_to,
        "known": known or {},
        "nice": nice,
    }
    answer: Mapping[str, Any] = _ask(pod, "scan", spec)
    if "error" in answer:
        raise StoreError(f"the pod's output cannot be read: {answer['error']}")
    return answer


def look(
    pod: FinishedPod,
    outputs: Sequence[str],
    excludes: Sequence[str],
    known: Mapping[str, Sequence[int]],
    *,
    checkpoints: tuple[str, str | None] | None,
    md5: bool,
    part_size: int,
    least: int,
    most: int,
    after: Mapping[str, float],
    nice: int,
) -> Mapping[str, Any]:
    """Return what is final in the output of a training that runs: ``files`` as a scan gives them, ``now``, ``checkpoint``.

    Files of ``least`` bytes or more, about ``most`` bytes at once; ``known`` are fingerprints of what need not be hashed again.
    ``checkpoints`` are pattern and mark of a recipe's; ``after`` is how long what must have rested (pod/scanner.py).
    """
    spec = {
        "root": pod.root, "outputs": list(outputs), "excludes": list(excludes), "reserved": sorted(RESERVED), "known": known,
        "checkpoints": {"pattern": checkpoints[0], "mark": checkpoints[1]} if checkpoints else None, "md5": md5, "part_size": part_size,
        "least": least, "most": most, "after": after, "nice": nice,
    }  # fmt: skip
    answer: Mapping[str, Any] = _ask(pod, "look", spec)
    return answer


def kind_of(transport: Transport, path: str) -> Literal["folder", "file", "nothing"]:
    """Return what lies at a path of the pod."""
    place = quote(path)
    said = transport.exec(f"if [ -d {place} ]; then echo folder; elif [ -e {place} ]; then echo file; fi", timeout=60).text.strip()
    return "folder" if said == "folder" else "file" if said == "file" else "nothing"


def sample(pod: FinishedPod, ranges: Sequence[Range]) -> list[str]:
    """Return the sha256 of ranges (path, offset, length) of files."""
    spec = {"ranges": [{"path": path, "offset": offset, "length": length} for path, offset, length in ranges]}
    return [str(text) for text in _ask(pod, "sample", spec)["sha256"]]


def send(pod: FinishedPod, plan: Mapping[str, Any], on_bytes: OnBytes, on_stored: Callable[[int], None]) -> PlanOutcome:
    """Carry out a plan of bound requests; the outcome of every item, and of every file to hash, is known afterwards.

    ``on_stored`` hears the id of each item once, as it is stored.
    """
    return _carry_out(pod, "send", plan, on_bytes, on_stored)


def copy(pod: FinishedPod, plan: Mapping[str, Any], on_bytes: OnBytes) -> PlanOutcome:
    """Copy files on the pod, into a bucket that is mounted there; the outcome of every item is known afterwards."""
    return _carry_out(pod, "copy", plan, on_bytes)


def _carry_out(
    pod: FinishedPod, verb: Verb, plan: Mapping[str, Any], on_bytes: OnBytes, on_stored: Callable[[int], None] = lambda _: None
) -> PlanOutcome:
    sent = PlanOutcome()
    done = carry_out(pod.transport, verb, json.dumps(plan).encode(), lambda event: _note(sent, event, on_bytes, on_stored))
    _need_python(done)
    if done.rc not in (0, 1):
        raise StoreError(f"the uploader on the pod ended with {done.rc}: {done.error_text}")
    for item in plan["items"]:
        if item["id"] not in sent.stored:
            sent.failed.setdefault(item["id"], _UNFINISHED)
    for entry in plan.get("hash", ()):
        if entry["path"] not in sent.hashes:
            sent.unhashed.setdefault(entry["path"], _UNFINISHED)
    return sent


def mark_safe(pod: FinishedPod, digest: str) -> None:
    """Tell the watchdog that nothing uncommitted lies here any more. It only saves waiting: that it fails is no error."""
    path = posixpath.join(posixpath.dirname(pod.root), ".trainyard", "committed")
    with contextlib.suppress(Unreachable):
        command = f"mkdir -p {quote(posixpath.dirname(path))} && cat > {quote(path)}"
        pod.transport.exec(command, digest.encode() + b"\n", timeout=30)


def _note(sent: PlanOutcome, event: Event, on_bytes: OnBytes, on_stored: Callable[[int], None]) -> None:
    kind = event.get("event")
    if kind == "stored":
        if event["id"] not in sent.stored:
            sent.stored.add(event["id"])
            on_stored(event["id"])
    elif kind == "failed":
        sent.failed[event["id"]] = event
    elif kind == "hashed":
        sent.hashes[event["path"]] = event["sha256"]
    elif kind == "unhashed":
        sent.unhashed[event["path"]] = event
    elif kind in ("progress", "done"):
        on_bytes(int(event["sent"]))


def _ask(pod: FinishedPod, verb: Verb, spec: Mapping[str, Any]) -> Any:
    done = carry_out(pod.transport, verb, json.dumps(spec).encode())
    _need_python(done)
    if done.rc:
        raise StoreError(f"the uploader on the pod cannot {verb}: {done.error_text}")
    try:
        return parse_json(done.stdout)
    except ValueError:
        raise StoreError(f"the uploader on the pod answered something else than JSON: {done.stdout[:200]!r}") from None


def _need_python(done: CommandResult) -> None:
    if done.rc == NO_PYTHON:
        raise PodCannotUpload("the pod has no python3, so it cannot send its result by itself")
