"""Judge a run by its own bundle: was it a success, and if not, what does its log say."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainyard.errors import PodFailed, TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.recipes.bundle import SHA256_LIST
from trainyard.recipes.declaration import DECLARED, Declaration, read_declaration
from trainyard.remote.jobs import OUT_OF_MEMORY
from trainyard.remote.protocol import Transport, expect, quote
from trainyard.runs.life.verdict import Verdict
from trainyard.runs.records.home import STATUS
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.storage.manifest import Keep

_LOG_TAIL = 64 * 1024
_MISSING = 70
"""run.sh's exit code when the program said done and an expected file is missing, or a place could not be made."""

_KILLED = 137


def declared_of(folder: RunFolder) -> Declaration:
    """Return what the run's bundle at home says of its recipe; raises UserError when it is lost or damaged."""
    path = folder.bundle / DECLARED
    try:
        return read_declaration(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: the run's bundle cannot be read: {error.strerror}") from None


def declared_anywhere(folder: RunFolder, record: RunRecord, pod: ReachablePod, transport: Transport) -> Declaration:
    """Return what the bundle says, from home or, where that is lost, from the pod, proved by the bundle's hash."""
    try:
        return declared_of(folder)
    except UserError as error:
        return read_declaration(bundled(record, pod, transport, DECLARED, error), f"{DECLARED} of pod {pod.id}")


def bundled(record: RunRecord, pod: ReachablePod, transport: Transport, name: str, why: UserError) -> bytes:
    """Return a file of the run's bundle as it lies on the pod; raises PodFailed when its hash is not the one of this run."""
    listing = _read(transport, pod.path("run", SHA256_LIST), why)
    body = _read(transport, pod.path("run", name), why)
    whole = hashlib.sha256(listing).hexdigest() == record.bundle_sha256
    if not whole or f"{hashlib.sha256(body).hexdigest()}  {name}\n".encode() not in listing:
        raise PodFailed(f"{why.message}; and the pod's own copy of {name} is not the one that this run sent")
    return body


def judge(record: RunRecord, folder: RunFolder, said: Declaration) -> Verdict:
    """Return the training's own verdict by its exit code; sets ``record.training_success``."""
    # run.sh checks the expected artefacts itself and tells by its exit code when one is missing.
    record.training_success = record.exit_code in said.exit_codes
    if record.training_success or record.exit_code in said.stopped:
        return Verdict("training")
    return Verdict("training", "\n".join([f"the training {_end(record, folder)}", *last_words(said, folder.log)]), 1)


def keep(record: RunRecord, folder: RunFolder, said: Declaration) -> Keep | None:
    """Return how what a judged training left is to be kept; None for a success, whose result is committed as one."""
    if record.training_success:
        return None
    asked = "cancelled" if record.cancelled else record.stop_reason or "told to stop (its lease's stop, or its budget)"
    why = asked if record.exit_code in said.stopped else _end(record, folder)
    return Keep(why, record.exit_code, said.checkpoints, said.checkpoint_mark)


def told_by_pod(record: RunRecord, said: Declaration, pod: ReachablePod, transport: Transport) -> str | None:
    """Return why the pod's watchdog told a stopped training to stop; None where it did not, or does not say."""
    if record.exit_code not in said.stopped:
        return None
    try:
        status = parse_json(transport.exec(f"cat {quote(pod.path('.trainyard', 'watchdog', 'status.json'))}", timeout=60).stdout)
        reason = status.get("reason") if status.get("state") == "stopping" else None
    except (TrainyardError, ValueError, AttributeError):
        return None  # it only tells more
    return reason if isinstance(reason, str) and reason else None


def _end(record: RunRecord, folder: RunFolder) -> str:
    if record.vanished:
        return f"has no verdict: {record.vanished}"
    if missing := _missing(record, folder):
        return f"said done, but left nothing that matches {', '.join(missing)}, which is expected of it"
    if OUT_OF_MEMORY in _tail(folder.log):
        return f"exited {record.exit_code}: out of memory"
    asked = "cancelled" if record.cancelled else record.stop_reason
    ended = f": it did not end when it was told to ({asked}), and was killed" if asked and record.exit_code == _KILLED else ""
    return f"exited {record.exit_code}{ended}"


def _missing(record: RunRecord, folder: RunFolder) -> list[str]:
    """Return the expected patterns that run.sh found nothing for, as its status says; none of another end."""
    try:
        said = parse_json((folder.path / STATUS).read_bytes()) if record.exit_code == _MISSING else {}
        return [str(pattern) for pattern in said.get("missing", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def last_words(said: Declaration, log: Path) -> list[str]:
    """Return the last lines of a log, and what to do where the recipe knows the failure."""
    text = _tail(log)
    lines = ["  " + line for line in text.splitlines()[-10:]]
    return lines + [known.remedy for known in said.failures if known.pattern.search(text)]


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace") if log.is_file() else ""


def _read(transport: Transport, path: str, why: UserError) -> bytes:
    return expect(transport.exec(f"cat {quote(path)}", timeout=60), why.message).stdout
