"""A model of a cloud, as nasty as real ones: accepted but failed, late in listings, doubled, hanging in the middle.

Its ledger is files, so that two processes and a killed one see the same cloud. Faults are set in ``faults.json``
beside them. Time is the caller's.
"""

from __future__ import annotations

import builtins
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainyard.clock import format_time, parse_time
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec, SshAddress
from trainyard.errors import CloudRefused, CloudUnknown, NoCapacity

PLAIN = Capabilities(
    self_terminate=True,
    deadline=False,
    change_markers=True,
    settle=20.0,
    listings=2,
    post_timeout=30.0,
)


class ModelCloud:
    """One account of a cloud, kept in a folder."""

    name = "model"
    simulated = True
    address: str | None = None

    def __init__(self, root: Path, clock: Callable[[], float] = time.time, capabilities: Capabilities = PLAIN) -> None:
        self.root = root
        self.clock = clock
        self.capabilities = capabilities
        self.boot_problems: dict[str, str] = {}
        self.bills: dict[str, float] = {}
        (root / "pods").mkdir(parents=True, exist_ok=True)

    # The five calls that matter.

    def offers(self, query: OfferQuery) -> list[Offer]:
        self._fault("offers")
        gpus = query.gpus or ("A",)
        found = [Offer(f"{gpu}-1", "model", gpu, query.gpu_count, price) for gpu, price in zip(gpus, (1.0, 2.0, 3.0), strict=False)]
        return [offer for offer in found if query.max_price is None or offer.price_per_hour <= query.max_price]

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        self._count("create")
        self._hang("before-accept")
        fault = self._fault("create", offer.id)
        if fault == "no-capacity":
            raise NoCapacity(f"{offer.id} is taken")
        if fault == "refused":
            raise CloudRefused("bad request")
        if fault == "error":
            raise CloudUnknown("502 Bad Gateway")
        if fault == "error-then-late":
            self._accept(spec, offer, late=self.capabilities.settle - 1)
            raise CloudUnknown("timed out")
        info = self._accept(spec, offer)
        if fault == "double":
            self._accept(spec, offer)
        self._hang("after-accept")
        if fault == "accepted-error":
            raise CloudUnknown("500 after accepting")
        if fault == "accepted-crash":
            raise RuntimeError("the client's own bug")
        return info

    def get(self, pod_id: str) -> PodInfo | None:
        if self._fault("get"):
            raise CloudUnknown("503")
        state = self._read(pod_id)
        return self._info(state) if state and self._alive(state) else None

    def list(self) -> list[PodInfo]:
        self._count("list")
        if self._fault("list") == "error":
            raise CloudUnknown("503 on list")
        states = [self._read(path.stem) for path in sorted((self.root / "pods").glob("*.json"))]
        now = self.clock()
        return [self._info(state) for state in states if state and self._alive(state) and state["visible"] <= now]

    def terminate(self, pod_id: str) -> None:
        self._count("terminate")
        if self._fault("terminate") == "error":
            raise CloudUnknown("500 on terminate")
        state = self._read(pod_id)
        if state and self._fault("terminate", "ignored") is None:
            self.write(pod_id, {**state, "status": "terminating", "leaves": self.clock() + self.faults().get("leave", 0)})

    def boot_problem(self, pod_id: str) -> str | None:
        """Return what the test says the logs tell."""
        return self.boot_problems.get(pod_id)

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        state = self._read(pod_id)
        assert state is not None
        self.write(pod_id, {**state, "stop": format_time(stop), "end": format_time(end)})

    def costs(self) -> builtins.list[CostItem]:
        return []

    def account(self) -> Account | None:
        return None

    def billed(self, pod_id: str) -> float | None:
        return self.bills.get(pod_id)

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        return 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    # The test's side.

    def faults(self) -> dict[str, Any]:
        path = self.root / "faults.json"
        faults: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return faults

    def set_faults(self, **faults: object) -> None:
        """Set the faults: lists are used up call by call, ``hang`` names a point to stop at until ``go`` exists."""
        draft = self.root / f"faults.{os.getpid()}"
        draft.write_text(json.dumps(faults))
        draft.replace(self.root / "faults.json")

    def alive(self) -> builtins.list[str]:
        """Return the ids of pods that cost money, whatever listings say."""
        states = [self._read(path.stem) for path in sorted((self.root / "pods").glob("*.json"))]
        return [state["id"] for state in states if state and self._alive(state)]

    def calls(self, what: str) -> int:
        path = self.root / f"count-{what}"
        return path.stat().st_size if path.exists() else 0

    def add(self, name: str, fence_id: str, lease_id: str, **more: object) -> str:
        """Put a pod into the ledger that nobody here created."""
        pod_id = f"p{len(list((self.root / 'pods').glob('*.json')))}"
        state = {
            "id": pod_id, "name": name, "fence_id": fence_id, "lease_id": lease_id, "status": "running", "created": self.clock(),
            "visible": 0, "price": 1.0, "gpu": "A", "stop": None, "end": None, "host": None,
        }  # fmt: skip
        self.write(pod_id, {**state, **more})
        return pod_id

    def change(self, pod_id: str, **more: object) -> None:
        state = self._read(pod_id)
        assert state is not None
        self.write(pod_id, {**state, **more})

    def state(self, pod_id: str) -> dict[str, Any]:
        state = self._read(pod_id)
        assert state is not None
        return state

    def write(self, pod_id: str, state: dict[str, Any]) -> None:
        draft = self.root / "pods" / f".{pod_id}.{os.getpid()}"
        draft.write_text(json.dumps(state))
        draft.replace(self.root / "pods" / f"{pod_id}.json")

    def _accept(self, spec: PodSpec, offer: Offer, late: float = 0.0) -> PodInfo:
        end = {"end": format_time(spec.end), "stop": format_time(spec.stop)}
        visible = self.clock() + max(late, self.faults().get("delay", 0))
        env = {"env": dict(spec.env), "boot": list(spec.boot), "host_key": spec.host_key}
        dearer = float(self._fault("dearer") or 1)
        more = {"visible": visible, "price": offer.price_per_hour * dearer, "gpu": offer.gpu}
        pod_id = self.add(spec.name, spec.fence_id, spec.lease_id, **more, **end, **env)
        return self._info(self.state(pod_id))

    def _alive(self, state: dict[str, Any]) -> bool:
        return bool(state["status"] != "terminating" or self.clock() < state.get("leaves", 0))

    def _info(self, state: dict[str, Any]) -> PodInfo:
        info = PodInfo(
            id=state["id"],
            name=state["name"],
            status=state["status"],
            raw_status=str(state["status"]).upper(),
            price_per_hour=state["price"],
            created=datetime.fromtimestamp(state["created"], UTC),
            fence_id=state["fence_id"],
            lease_id=state["lease_id"],
            stop=parse_time(state["stop"]),
            end=parse_time(state["end"]),
            gpu=state["gpu"],
            gpu_count=1,
            host_key=state.get("shows"),
        )
        return replace(info, ssh=SshAddress(*state["host"])) if state.get("host") else info

    def _read(self, pod_id: str) -> dict[str, Any] | None:
        path = self.root / "pods" / f"{pod_id}.json"
        state: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return state

    def _fault(self, *keys: str) -> str | None:
        faults = self.faults()
        for key in ("/".join(keys), keys[0]):
            value = faults.get(key)
            if isinstance(value, list):
                if not value:
                    return None
                self.set_faults(**{**faults, key: value[1:]})
                return str(value[0])
            if value is not None:
                return str(value)
        return None

    def _hang(self, point: str) -> None:
        if self.faults().get("hang") != point:
            return
        (self.root / f"at-{point}").touch()
        while not (self.root / "go").exists():
            time.sleep(0.005)

    def _count(self, what: str) -> None:
        with (self.root / f"count-{what}").open("ab") as file:
            file.write(b".")
