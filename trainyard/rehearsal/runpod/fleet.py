"""The pods of the rehearsal and how they live: asked for, allocated, started, running, stopped, gone.

One thread moves every pod along; each pod has a lock, so that a delete and a start never cross.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainyard.rehearsal.runpod.faults import Faults
from trainyard.rehearsal.runpod.ledger import CloudLedger, Record
from trainyard.rehearsal.runpod.machines import Machines
from trainyard.rehearsal.runpod.stock import disk_price

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WATCH = 1.0
"""Seconds between two looks at a running pod's machine."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long (s) each phase takes."""

    provisioning: float = 0.3
    starting: float = 0.3
    ports: float = 0.3
    lag: float = 3.0


@dataclass(slots=True)
class Fleet:
    """All pods."""

    ledger: CloudLedger
    faults: Faults
    machines: Machines
    timing: Timing = field(default_factory=Timing)
    now: Callable[[], float] = time.time
    _locks: dict[str, threading.RLock] = field(default_factory=dict)
    _wake: threading.Event = field(default_factory=threading.Event)
    _stopping: bool = False

    def create(self, request: Mapping[str, Any], *, price: float, center: str, spot: bool = False) -> Record:
        """Take a pod on: it is paid from now on, and starts by itself."""
        pod_id = "".join(secrets.choice(_LETTERS) for _ in range(14))
        key = self.faults.met("key") if any(r["name"] == "pod-key-absent" for r in self.faults.active()) else None
        record: Record = {
            "id": pod_id, "name": request["name"], "request": dict(request), "status": "PROVISIONING", "price": price,
            "center": center, "spot": spot, "created": self.now(), "started": None, "due": self.now() + self.timing.provisioning,
            "key": "" if key else f"rpa_pod_{pod_id}_{secrets.token_hex(12)}", "port": None, "shown_port": None, "ports_at": 0.0,
            "disk_price": disk_price(request), "restarts": 0, "boot": self.faults.met("boot") or {}, "system": [], "lost": [],
        }  # fmt: skip
        record["due"] += record["boot"].get("slow", 0.0)
        self.ledger.note("paid", record, self.now())
        self.ledger.save(record)
        self._wake.set()
        return record

    def get(self, pod_id: str) -> Record | None:
        """Return a pod's record while the pod exists."""
        record = self.ledger.pods.get(pod_id)
        return None if record is None or record.get("deleting") else record

    def all(self) -> list[Record]:
        """Return the records of all pods that exist, oldest first."""
        return sorted((r for r in list(self.ledger.pods.values()) if not r.get("deleting")), key=lambda r: r["created"])

    def delete(self, pod_id: str, why: str) -> bool:
        """End a pod for good; False when there is none. When it returns, nothing of its machine runs and its bill is closed."""
        with self._lock(pod_id):
            record = self.get(pod_id)
            if record is None:
                return False
            record["deleting"], record["status"] = why, "TERMINATED"
            self.ledger.save(record)
            self._bury(record)
        return True

    def act(self, pod_id: str, action: str) -> Record | None:
        """Carry out start, stop or restart; None when the pod's status does not allow it."""
        with self._lock(pod_id):
            record = self.get(pod_id)
            if record is None or action not in actions(record):
                return None
            if action == "stop":
                self._stop(record, "stopped by the user")
            elif action == "start":
                self.ledger.note("paid", record, self.now(), "started again")
                record |= {"status": "PROVISIONING", "due": self.now() + self.timing.provisioning}
            else:
                self.machines.end(pod_id)
                record["restarts"] += 1
                self._run(record)
            self.ledger.save(record)
            self._wake.set()
            return record

    def update(self, pod_id: str, changes: Mapping[str, Any]) -> Record | None:
        """Change a pod's settings; a changed image or variable restarts the container."""
        with self._lock(pod_id):
            record = self.get(pod_id)
            if record is None:
                return None
            record["request"] |= changes
            record["name"] = record["request"]["name"]
            if {"env", "image", "args"} & changes.keys() and record["status"] == "RUNNING":
                self.machines.end(pod_id)
                record["restarts"] += 1
                self._run(record)
            self.ledger.save(record)
            return record

    def run(self) -> None:
        """Move the pods along until ``stop``; first finish what a killed emulator left half done."""
        for pod_id in list(self.machines.all()):
            if pod_id not in self.ledger.pods:
                self.machines.end(pod_id)
        while not self._stopping:
            for record in list(self.ledger.pods.values()):
                with self._lock(record["id"]):
                    self._try_step(record)
            self._wake.wait(self._pause())
            self._wake.clear()

    def stop(self) -> None:
        """End the thread; pods live on."""
        self._stopping = True
        self._wake.set()

    def _try_step(self, record: Record) -> None:
        """Move a pod along; a machine that fails is noted and tried again, and the others go on."""
        try:
            self._step(record["id"])
        except Exception as error:
            record["due"] = self.now() + 1.0
            self._say(record, [f"error starting container: {error}"])
            with open(self.ledger.root / "errors.log", "a", encoding="utf-8") as log:
                log.write(f"{record['id']} {record['status']}: {error!r}\n")
                traceback.print_exc(file=log)

    def _step(self, pod_id: str) -> None:
        record, now = self.ledger.pods.get(pod_id), self.now()
        if record is None:
            return
        if record.get("deleting"):
            self._bury(record)
            return
        boot = record["boot"]
        if boot.get("stuck") == record["status"]:
            self._say(record, boot.get("system", []))
            return
        if now < record["due"]:
            return
        before = (record["status"], record["restarts"], len(record["system"]))
        if record["status"] == "PROVISIONING":
            self._say(record, [f"create container {record['request'].get('image', '')}", "pull image"])
            record |= {"status": "STARTING", "due": now + self.timing.starting}
        elif record["status"] == "STARTING" and boot.get("error"):
            record |= {"status": "ERROR", "due": float("inf")}
        elif record["status"] == "STARTING":
            self._run(record)
        elif record["status"] == "RUNNING":
            self._watch(record)
        # A look at a pod that just goes on changes nothing worth a write to the disk.
        if before != (record["status"], record["restarts"], len(record["system"])) and pod_id in self.ledger.pods:
            self.ledger.save(record)

    def _run(self, record: Record) -> None:
        self._say(record, ["start container"])
        boot = record["boot"]
        stale = record["port"] if record["port"] is not None else boot.get("stale") and 9
        info = self.machines.start(record)
        now = self.now()
        port = info.ssh.port if info.ssh is not None else None
        hold = boot.get("stale") or (self.timing.ports if stale else 0.0)
        # On a machine without namespaces a pod has another folder and another login than a container would.
        record |= {"workspace": info.workspace, "user": info.ssh.user if info.ssh is not None else "root"}
        record |= {
            "status": "RUNNING", "started": now, "port": port, "stale_port": stale, "stale_until": now + hold + self.timing.ports,
            "ports_at": now + boot.get("ports_after", self.timing.ports), "due": now + WATCH,
        }  # fmt: skip

    def _watch(self, record: Record) -> None:
        life, boot = self.faults.met("life"), record["boot"]
        record["due"] = self.now() + WATCH
        if boot.get("restarts"):
            self._say(record, ["start container"])
            record["lost"] += boot.get("container", [])
            record["restarts"] += 1
        if life and life["into"] == "gone":
            record["deleting"] = "died by itself"
            self._bury(record)
        elif life and life["into"] == "EXITED":
            self._stop(record, "stopped by RunPod")
        elif (life and life["into"] == "restart") or self.machines.find(record["id"]) is None:
            record["lost"] += self.machines.log(record["id"])
            self.machines.end(record["id"])
            record["restarts"] += 1
            self._run(record)

    def _stop(self, record: Record, why: str) -> None:
        self.machines.end(record["id"])
        self.ledger.note("unpaid", record, self.now(), why)
        record |= {"status": "EXITED", "due": float("inf"), "started": None}

    def _bury(self, record: Record) -> None:
        """End a pod's machine and close its bill."""
        self.machines.end(record["id"])
        self.ledger.note("unpaid", record, self.now(), record["deleting"])
        record["ended"] = self.now()
        self.ledger.forget(record)

    def _say(self, record: Record, lines: list[str]) -> None:
        record["system"] += [line for line in lines if line == "start container" or line not in record["system"]]

    def _pause(self) -> float:
        dues: list[float] = [r["due"] - self.now() for r in list(self.ledger.pods.values()) if r["boot"].get("stuck") != r["status"]]
        return max(0.02, min([60.0, *dues]))

    @contextlib.contextmanager
    def _lock(self, pod_id: str) -> Iterator[None]:
        with self._locks.setdefault(pod_id, threading.RLock()):
            yield


def actions(record: Mapping[str, Any]) -> list[str]:
    """Return the actions that a pod's status allows."""
    return {
        "PROVISIONING": ["stop", "terminate"],
        "STARTING": ["stop", "terminate"],
        "RUNNING": ["stop", "restart", "terminate"],
        "EXITED": ["start", "terminate"],
        "ERROR": ["start", "terminate"],
    }.get(record["status"], [])
