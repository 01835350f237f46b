"""What an emulator knows, on disk: pods, and who was paid from when to when. A restarted emulator goes on from here.

The ledger is the judge of the guarantee that no pod outlives its lease: it is kept by the emulator alone, from the
moment it accepts a create until the machine behind the pod is gone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

from trainyard.files import write_atomic
from trainyard.jsontext import parse_json

Phase = Literal["PROVISIONING", "STARTING", "RUNNING", "EXITED", "ERROR", "TERMINATED"]
"""How far a pod is, in the kit's words; each cloud shows it in its own."""


class PodRecord(TypedDict):
    """One pod. ``request`` is whatever the cloud's create has kept of what was asked for; times are epoch seconds."""

    id: str
    name: str
    request: dict[str, Any]
    status: Phase
    image: str
    price: float
    disk_price: float
    gpu: bool
    place: str
    spot: bool
    created: float
    started: float | None
    due: float
    """When it is to be moved along."""
    key: str
    """Its own, empty where it has none."""
    port: int | None
    ports_at: float
    """When its address shows."""
    restarts: int
    boot: dict[str, Any]
    """What a fault does to its start."""
    system: list[str]
    lost: list[str]
    """What the cloud has said of it, and what containers have printed that are gone."""
    stale_port: NotRequired[int | None]
    stale_until: NotRequired[float]
    workspace: NotRequired[str]
    user: NotRequired[str]
    exit_code: NotRequired[int]
    """Of a pod that is a command, when it is over."""
    deleting: NotRequired[str]
    ended: NotRequired[float]


@dataclass(frozen=True, slots=True)
class Paid:
    """One stretch of time for which a pod was paid; ``end`` is None while it still runs."""

    pod: str
    name: str
    price: float
    start: float
    end: float | None
    why: str = ""
    disk: float = 0.0
    """Dollars an hour of its disks, beside its price."""
    gpu: bool = True

    def cost(self, now: float) -> float:
        """Return dollars until now."""
        return (self.price + self.disk) * ((now if self.end is None else self.end) - self.start) / 3600


class CloudLedger:
    """The folder of one emulator."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.Lock()
        for folder in ("pods", "gone"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self.pods: dict[str, PodRecord] = {r["id"]: r for r in _records(root / "pods")}

    def save(self, record: PodRecord) -> None:
        """Write a pod's record, whole or not at all."""
        with self.lock:
            self.pods[record["id"]] = record
            _write(self.root / "pods" / f"{record['id']}.json", record)

    def forget(self, record: PodRecord) -> None:
        """Take a pod off the list; its record stays in ``gone/``."""
        with self.lock:
            self.pods.pop(record["id"], None)
            _write(self.root / "gone" / f"{record['id']}.json", record)
            (self.root / "pods" / f"{record['id']}.json").unlink(missing_ok=True)

    def note(self, event: Literal["paid", "unpaid"], record: PodRecord, now: float, why: str = "") -> None:
        """Append to the ledger: ``paid`` from now, or ``unpaid`` from now on."""
        line = {
            "time": now, "event": event, "pod": record["id"], "name": record["name"], "price": record["price"], "why": why,
            "disk": record["disk_price"], "gpu": record["gpu"],
        }  # fmt: skip
        _append(self.root / "ledger.jsonl", line)

    def paid(self) -> list[Paid]:
        """Return every stretch of paid time."""
        return read_ledger(self.root)

    def account(self) -> dict[str, Any]:
        """Return what else the account holds, as the cloud keeps it: keys, volumes, templates, balance."""
        return _read(self.root / "account.json") or {}

    def save_account(self, account: Mapping[str, object]) -> None:
        """Write what else the account holds."""
        with self.lock:
            _write(self.root / "account.json", account)


def read_ledger(root: Path) -> list[Paid]:
    """Return every stretch of paid time of an emulator, in the order of their start."""
    open_stretches: dict[str, Mapping[str, Any]] = {}
    done: list[Paid] = []
    for line in _lines(root / "ledger.jsonl"):
        begun = open_stretches.pop(line["pod"], None)
        if line["event"] == "paid":
            open_stretches[line["pod"]] = begun or line
        elif begun is not None:
            done.append(_stretch(begun, line["time"], line["why"]))
    done += [_stretch(begun, None, "") for begun in open_stretches.values()]
    return sorted(done, key=lambda paid: paid.start)


def _stretch(begun: Mapping[str, Any], end: float | None, why: str) -> Paid:
    more = {name: begun[name] for name in ("disk", "gpu") if name in begun}  # an emulator of an older version has neither
    return Paid(begun["pod"], begun["name"], begun["price"], begun["time"], end, why, **more)


def requests(root: Path) -> list[Mapping[str, Any]]:
    """Return every request that was answered: time, method, path, call, who (account, a pod's id, nobody), status, fault."""
    return list(_lines(root / "requests.jsonl"))


def gone(root: Path) -> list[PodRecord]:
    """Return the last records of pods that exist no more."""
    return list(_records(root / "gone"))


def note_request(root: Path, line: Mapping[str, object]) -> None:
    """Append to the list of requests."""
    _append(root / "requests.jsonl", line)


def _records(folder: Path) -> Iterator[PodRecord]:
    for path in sorted(folder.glob("*.json")):
        record = _read(path)
        if record is not None:
            yield cast(PodRecord, record)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write(path: Path, value: Mapping[str, object]) -> None:
    write_atomic(path, json.dumps(value), durable=True)


def _append(path: Path, line: Mapping[str, object]) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        yield parse_json(line)
