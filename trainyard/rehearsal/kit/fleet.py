"""The pods of an emulator and how they live: asked for, allocated, started, running, stopped, gone.

One thread moves every pod along; each pod has a lock, so that a delete and a start never cross.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainyard.rehearsal.kit.cloud import EmulatedCloud
from trainyard.rehearsal.kit.faults import Faults
from trainyard.rehearsal.kit.ledger import CloudLedger, Phase, PodRecord
from trainyard.rehearsal.kit.machines import Machines

WATCH = 1.0
"""Seconds between two looks at a running pod's machine."""
Action = Literal["start", "stop", "restart"]
ACTIONS: Mapping[Phase, tuple[Action, ...]] = {
    "PROVISIONING": ("stop",),
    "STARTING": ("stop",),
    "RUNNING": ("stop", "restart"),
    "EXITED": ("start",),
    "ERROR": ("start",),
}
"""What may be done to a pod besides ending it, by its phase."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long (s) each phase takes. ``provisioning`` of 1e9: no pod ever gets a machine, which is enough for what an API says."""

    provisioning: float = 0.3
    starting: float = 0.3
    ports: float = 0.3
    lag: float = 3.0


@dataclass(frozen=True, slots=True)
class NewPod:
    """What a create has been granted. ``request``: what the cloud keeps of it; dollars are an hour's."""

    request: Mapping[str, Any]
    name: str
    price: float
    place: str = ""
    image: str = ""
    gpu: bool = True
    spot: bool = False
    disk_price: float = 0.0


@dataclass(slots=True)
class Fleet:
    """All pods."""

    cloud: EmulatedCloud
    ledger: CloudLedger
    faults: Faults
    machines: Machines
    timing: Timing = field(default_factory=Timing)
    now: Callable[[], float] = time.time
    _locks: dict[str, threading.RLock] = field(default_factory=dict)
    _wake: threading.Event = field(default_factory=threading.Event)
    _stopping: bool = False

    def create(self, new: NewPod) -> PodRecord:
        """Take a pod on: it is paid from now on, and starts by itself."""
        pod_id = self.cloud.new_id()
        absent = self.faults.met("key") if any(r["name"] == "pod-key-absent" for r in self.faults.active()) else None
        dearer, boot = self.faults.met("price"), dict(self.faults.met("boot") or {})
        record: PodRecord = {
            "id": pod_id, "name": new.name, "request": dict(new.request), "status": "PROVISIONING", "image": new.image,
            "price": new.price * (dearer["factor"] if dearer else 1.0), "disk_price": new.disk_price, "gpu": new.gpu,
            "place": new.place, "spot": new.spot, "created": self.now(), "started": None,
            "due": self.now() + self.timing.provisioning + boot.get("slow", 0.0),
            "key": "" if absent else self.cloud.pod_key(pod_id), "port": None, "ports_at": 0.0,
            "restarts": 0, "boot": boot, "system": [], "lost": [],
        }  # fmt: skip
        self.ledger.note("paid", record, self.now())
        self.ledger.save(record)
        self._wake.set()
        return record

    def get(self, pod_id: str) -> PodRecord | None:
        """Return a pod's record while the pod exists."""
        record = self.ledger.pods.get(pod_id)
        return None if record is None or record.get("deleting") else record

    def existing(self, pod_id: str) -> PodRecord:
        """Return a pod's record; raises the cloud's own "not found" where there is none."""
        record = self.get(pod_id)
        if record is None:
            raise self.cloud.refuse("not found")
        return record

    def all(self) -> list[PodRecord]:
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

    def act(self, pod_id: str, action: Action) -> PodRecord | None:
        """Carry out start, stop or restart; None when the pod's phase does not allow it."""
        with self._lock(pod_id):
            record = self.get(pod_id)
            if record is None or action not in ACTIONS.get(record["status"], ()):
                return None
            if action == "stop":
                self._stop(record, "stopped by the user")
            elif action == "start":
                self.ledger.note("paid", record, self.now(), "started again")
                record["status"], record["due"] = "PROVISIONING", self.now() + self.timing.provisioning
            else:
                self._restart(record)
            if not record.get("deleting"):
                self.ledger.save(record)
            self._wake.set()
            return record

    def update(self, pod_id: str, changes: Mapping[str, Any], *, restart: bool) -> PodRecord | None:
        """Change a pod's request (and its name, where that is in it); ``restart`` starts a running container again with it."""
        with self._lock(pod_id):
            record = self.get(pod_id)
            if record is None:
                return None
            record["request"] |= changes
            record["name"] = changes.get("name", record["name"])
            if restart and record["status"] == "RUNNING":
                self._restart(record)
            self.ledger.save(record)
            return record

    def clock(self, moment: float | None = None) -> float:
        """Return a moment (now) as the cloud's own clock tells it."""
        skew = self.faults.met("clock")
        return (self.now() if moment is None else moment) + (skew["seconds"] if skew else 0.0)

    def sold_out(self) -> frozenset[str]:
        """Return what is sold out now: ``*``, or types and places in the cloud's words."""
        fault = self.faults.met("stock")
        return frozenset(fault["what"]) if fault else frozenset()

    def page(self, most: int) -> int:
        """Return how many items a page of a list may have, where the cloud lists in pages of ``most``."""
        fault = self.faults.met("page")
        return int(fault["size"]) if fault else most

    def port(self, record: PodRecord) -> int | None:
        """Return the public port of a pod's SSH server that the API shows now: none yet, another's for a while, the real one."""
        now = self.now()
        if record["status"] != "RUNNING" or record["boot"].get("ports") is False or now < record["ports_at"]:
            return None
        stale = record.get("stale_port")
        return stale if stale and now < record.get("stale_until", 0.0) else record["port"]

    def log(self, record: PodRecord) -> list[str]:
        """Return the lines that a pod's containers have printed, the ones before it too."""
        return record["lost"] + self.machines.log(record["id"])

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

    def _try_step(self, record: PodRecord) -> None:
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
            self._say(record, [f"create container {record['image']}", "pull image"])
            record["status"], record["due"] = "STARTING", now + self.timing.starting
        elif record["status"] == "STARTING" and boot.get("error"):
            record["status"], record["due"] = "ERROR", float("inf")
        elif record["status"] == "STARTING":
            self._run(record)
        elif record["status"] == "RUNNING":
            self._watch(record)
        # A look at a pod that just goes on changes nothing worth a write to the disk.
        if before != (record["status"], record["restarts"], len(record["system"])) and pod_id in self.ledger.pods:
            self.ledger.save(record)

    def _run(self, record: PodRecord) -> None:
        self._say(record, ["start container"])
        boot = record["boot"]
        stale = record["port"] if record["port"] is not None else boot.get("stale") and 9
        machine = self.machines.start(self.cloud.container(self.machines, record), record["id"])
        now = self.now()
        hold = boot.get("stale") or (self.timing.ports if stale else 0.0)
        # On a machine without namespaces a pod has another folder and another login than a container would.
        record["workspace"], record["user"] = machine.workspace, machine.user
        record["status"], record["started"], record["due"] = "RUNNING", now, now + WATCH
        record["port"], record["ports_at"] = machine.port, now + boot.get("ports_after", self.timing.ports)
        record["stale_port"], record["stale_until"] = stale, now + hold + self.timing.ports

    def _watch(self, record: PodRecord) -> None:
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
            self._stop(record, f"stopped by {self.cloud.title}")
        elif (life and life["into"] == "restart") or self.machines.find(record["id"]) is None:
            self._restart(record)
        elif (code := self.machines.exit_code(record["id"])) is not None:
            record["exit_code"] = code
            if self.cloud.container(self.machines, record).restarts:
                self._restart(record)
            else:
                self._stop(record, f"its command ended ({code})")

    def _restart(self, record: PodRecord) -> None:
        record["lost"] += self.machines.log(record["id"])
        self.machines.end(record["id"])
        record["restarts"] += 1
        self._run(record)

    def _stop(self, record: PodRecord, why: str) -> None:
        record["lost"] += self.machines.log(record["id"])
        if self.cloud.forgets_ended:
            record["status"], record["deleting"] = "EXITED", why
            self._bury(record)
            return
        self.machines.end(record["id"])
        if not self.cloud.bills_ended:
            self.ledger.note("unpaid", record, self.now(), why)
        record["status"], record["due"], record["started"] = "EXITED", float("inf"), None

    def _bury(self, record: PodRecord) -> None:
        """End a pod's machine and close its bill."""
        self.machines.end(record["id"])
        self.ledger.note("unpaid", record, self.now(), record["deleting"])
        record["ended"] = self.now()
        self.ledger.forget(record)

    def _say(self, record: PodRecord, lines: list[str]) -> None:
        record["system"] += [line for line in lines if line == "start container" or line not in record["system"]]

    def _pause(self) -> float:
        dues = [r["due"] - self.now() for r in list(self.ledger.pods.values()) if r["boot"].get("stuck") != r["status"]]
        return max(0.02, min([60.0, *dues]))

    @contextlib.contextmanager
    def _lock(self, pod_id: str) -> Iterator[None]:
        with self._locks.setdefault(pod_id, threading.RLock()):
            yield
