"""The intent to create a pod, on disk before the request leaves, and the lock that tells whether its writer lives.

``intents/<lease id>/<pod name>`` holds one JSON object a line: ``start`` before each create request,
``outcome`` (an id, or a definite refusal) after it, ``adopted`` when a listing showed the pod. The file is
locked with flock(2) by the process that works on it: the kernel drops the lock with the process, so a file
that can be locked has no living writer. A ``start`` without outcome means that the pod may exist, or may
still appear until the create request's own time limit and the cloud's settle time are over.

Only the Lease removes these files. Knows nothing of clouds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainyard.clouds.marker import parse_name
from trainyard.filelock import acquire, hold_lock, release
from trainyard.files import naming, sync
from trainyard.jsontext import parse_json

_POLL = 0.2
_CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class IntentRecord:
    """What an intent file says."""

    start: float | None
    """Time of the last create request, None when none was sent."""
    resolved: bool
    """The last request has an outcome on record (also when none was sent)."""
    outcome_at: float | None
    ids: tuple[str, ...]
    """Every id that this intent ever named."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A pod that a cloud has accepted: it costs money from ``at`` on (time of its request, epoch seconds)."""

    id: str
    at: float
    offer: str | None
    price: float | None
    ended: float | None
    """When whoever asked for it has ended it again, proved."""


@dataclass(slots=True)
class Intent:
    """A locked intent file."""

    path: Path
    fd: int

    def record(self) -> IntentRecord:
        """Return what the file says now."""
        return _parse(_read(self.fd))

    def start(self, offer: str, now: float) -> None:
        """Write down that a create request is about to leave."""
        self._append({"event": "start", "offer": offer, "time": now})

    def created(self, pod_id: str, price: float | None, now: float) -> None:
        """Write down the id that the cloud answered, or that a listing showed after an unclear answer."""
        self._append({"event": "outcome", "id": pod_id, "price": price, "time": now})

    def ended(self, pod_id: str, now: float) -> None:
        """Write down that a pod was ended again, with the time of its end."""
        self._append({"event": "ended", "id": pod_id, "time": now})

    def refused(self, reason: str, now: float) -> None:
        """Write down that the cloud definitely created nothing."""
        self._append({"event": "outcome", "refused": reason, "time": now})

    def adopted(self, pod_id: str, price: float | None, now: float) -> None:
        """Write down that a listing showed the pod."""
        self._append({"event": "adopted", "id": pod_id, "price": price, "time": now})

    def _append(self, entry: dict[str, object]) -> None:
        text = _read(self.fd)
        # A line that a crash cut short is closed first, else it would swallow this one.
        cut = b"" if not text or text.endswith(b"\n") else b"\n"
        os.lseek(self.fd, 0, os.SEEK_END)
        with naming(self.path):
            _write_all(self.fd, cut + json.dumps(entry).encode() + b"\n")
            os.fsync(self.fd)


def make_folder(root: Path, lease_id: str) -> Path:
    """Make the folder of a lease, durable before this returns."""
    folder = root / lease_id
    folder.mkdir(parents=True, exist_ok=True)
    sync(root)
    return folder


def has_folder(root: Path, lease_id: str) -> bool:
    """Tell whether this machine knows of the lease's create requests."""
    return (root / lease_id).is_dir()


@contextlib.contextmanager
def hold(
    root: Path, pod_name: str, now: float, sleep: Callable[[float], None], on_wait: Callable[[], None] | None = None
) -> Iterator[Intent]:
    """Lock the intent of a pod, waiting for a living holder, and unlock it at the end.

    Without the lease's folder this machine cannot know what another one asked for a moment ago: the file then
    begins as if a request had left just now.
    """
    parts = parse_name(pod_name)
    if parts is None:
        raise ValueError(f"not a pod name of ours: {pod_name}")
    if not has_folder(root, parts.lease_id):
        _begin_elsewhere(root, parts.lease_id, pod_name, now)
    path = root / parts.lease_id / pod_name
    fd = _lock(path, sleep, on_wait)
    try:
        yield Intent(path, fd)
    finally:
        release(fd)


def of_lease(root: Path, lease_id: str) -> list[Path]:
    """Return the intent files of a lease."""
    folder = root / lease_id
    return sorted(folder.iterdir()) if folder.is_dir() else []


def of_fence(root: Path, fence_id: str) -> list[Path]:
    """Return the intent files of every lease under a fence."""
    return sorted(path for path in root.glob(f"*/ty-{fence_id}-*") if parse_name(path.name))


def accepted(root: Path, lease_id: str) -> list[Accepted]:
    """Return every pod that was accepted under a lease, in order; read without the locks, so it may be a moment old."""
    by_id: dict[str, Accepted] = {}
    for path in of_lease(root, lease_id):
        start: float | None = None
        offer: str | None = None
        for entry in filter(None, map(_entry, _content(path).split(b"\n"))):
            if entry.get("event") == "start":
                start, offer = _number(entry.get("time")), str(entry.get("offer"))
            pod_id, moment = entry.get("id"), _number(entry.get("time"))
            if not isinstance(pod_id, str) or moment is None:
                continue
            if entry.get("event") == "ended" and pod_id in by_id:
                by_id[pod_id] = dataclasses.replace(by_id[pod_id], ended=moment)
            else:
                by_id.setdefault(pod_id, Accepted(pod_id, start or moment, offer, _number(entry.get("price")), None))
    return list(by_id.values())


def asked(root: Path, lease_id: str) -> int:
    """Return how many pods of a lease may be there: asked for, neither refused nor ended again; read without the locks."""
    ended = {pod.id for pod in accepted(root, lease_id) if pod.ended is not None}
    records = [_parse(_content(path)) for path in of_lease(root, lease_id) if parse_name(path.name)]
    return sum(1 for record in records if not record.resolved or set(record.ids) - ended)


def settle(path: Path, sleep: Callable[[float], None], on_wait: Callable[[], None] | None = None) -> IntentRecord:
    """Wait until no living process holds an intent, and return what it says then."""
    try:
        fd = _lock(path, sleep, on_wait, create=False)
    except FileNotFoundError:
        return IntentRecord(None, True, None, ())
    try:
        return _parse(_read(fd))
    finally:
        release(fd)


def remove_folder(root: Path, lease_id: str) -> None:
    """Forget a lease whose absence from the cloud is proven."""
    if has_folder(root, lease_id):
        shutil.rmtree(root / lease_id)
        sync(root)


def close(root: Path, id: str, now: float) -> None:
    """Mark a fence or lease as over for good, for every process of this machine."""
    folder = root / _CLOSED
    with hold_lock(folder / ".lock"):
        fd = os.open(folder / id, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            with naming(folder / id):
                _write_all(fd, f"{now}\n".encode())
                os.fsync(fd)
        finally:
            os.close(fd)
        sync(folder)


def is_closed(root: Path, id: str) -> bool:
    """Tell whether a fence or lease was closed on this machine."""
    folder = root / _CLOSED
    if not folder.is_dir():
        return False
    with hold_lock(folder / ".lock"):
        return (folder / id).exists()


def _begin_elsewhere(root: Path, lease_id: str, pod_name: str, now: float) -> None:
    # Folder and first line appear together, else a crash in between would pass for a lease without requests.
    root.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{lease_id}.", dir=root))
    try:
        with (draft / pod_name).open("w") as file:
            file.write(json.dumps({"event": "start", "offer": "unknown (the lease was made elsewhere)", "time": now}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # another process was faster: its folder serves as well
            draft.rename(root / lease_id)
        sync(root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _lock(path: Path, sleep: Callable[[float], None], on_wait: Callable[[], None] | None, *, create: bool = True) -> int:
    # Asked for again and again: the waiting ends when the plugin is told to stop.
    fd = acquire(path, on_wait, create=create, pause=lambda: sleep(_POLL))
    if create:
        sync(path.parent)
    return fd


def _parse(text: bytes) -> IntentRecord:
    start: float | None = None
    outcome_at: float | None = None
    ids: list[str] = []
    resolved = True
    for line in text.split(b"\n"):
        entry = _entry(line)
        if entry is None:
            continue
        moment = entry.get("time")
        when = float(moment) if isinstance(moment, (int, float)) else 0.0
        if entry.get("event") == "start":
            start, outcome_at, resolved = when, None, False
        else:
            outcome_at, resolved = when, True
        if isinstance(entry.get("id"), str):
            ids.append(str(entry["id"]))
    return IntentRecord(start, resolved, outcome_at, tuple(dict.fromkeys(ids)))


def _entry(line: bytes) -> dict[str, object] | None:
    """A line cut short by a crash is no entry: a start is synced before its request leaves, so nothing is lost with it."""
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # the lease was destroyed a moment ago


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _read(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
