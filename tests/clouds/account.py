"""An account at an emulated cloud, whichever: what the contract is tried with.

No machine is started, and waiting costs nothing: the clock of every client is moved by its sleeping alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trainyard.clouds import open_cloud
from trainyard.clouds.absence import KnownPod, Proof, prove
from trainyard.clouds.http import Pace
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import Cloud, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.config import places
from trainyard.errors import UserError
from trainyard.rehearsal.emulators import emulator_of
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.remote.keys import host_key
from trainyard.settings.clouds import entries

IMAGE = "example/trainyard-trainer@sha256:00"
_GPUS = ("RTX A4000", "RTX 5090", "RTX 4090", "H100", "A100", "L40S", "A10", "T4")
OPTIONS = {"replicate": {"template": f"you/trainyard:{'0' * 64}", "destination": "you/trained"}}
"""Settings without which a cloud rents nothing out."""
_SILENT = 0.05
"""Seconds for which a connection that hangs is kept."""


@dataclass(repr=False)
class Account:
    """An account at an emulated cloud whose pods never get a machine, and the client that every verb has."""

    folder: Path
    played: Emulator | None = None
    """None: the cloud on this machine, which has no emulator."""
    at: list[float] = field(default_factory=lambda: [time.time()])
    _offer: list[Offer] = field(default_factory=list)
    _cloud: list[Cloud] = field(default_factory=list)

    @property
    def emulator(self) -> Emulator:
        """The emulator, its books and its faults."""
        assert self.played is not None, "this cloud has no emulator"
        return self.played

    @property
    def cloud(self) -> Cloud:
        """The client of this case."""
        if not self._cloud:
            self._cloud.append(self.open())
        return self._cloud[0]

    def open(self, **env: str) -> Cloud:
        """Return a client of its own, as another process has."""
        if self.played is None:
            return open_cloud("local", {}, places(self.folder, {"TRAINYARD_LOCAL_ROOT": str(self.folder)}))
        with turned(self.now, self.sleep):
            return open_cloud(self.emulator.cloud.name, {**self.emulator.env, **env}, places(self.folder, {}))

    def now(self) -> float:
        return self.at[0]

    def sleep(self, seconds: float) -> None:
        self.at[0] += seconds

    def offer(self) -> Offer:
        """Return something that can be rented."""
        if not self._offer:
            self._offer += offers_of(self.cloud) if self.played else self.cloud.offers(OfferQuery())
        return self._offer[0]

    def rent(self, spec: PodSpec | None = None) -> PodInfo:
        """Rent a pod: of the first offer, and the next one while that may be taken, as a marketplace's is by a pod."""
        self.offer()
        offer = self._offer[min(len(self.alive()), len(self._offer) - 1)]
        return self.cloud.create(spec or make_spec(self.cloud), offer)

    def rent_for_others(self) -> str:
        """Let there be a pod that is none of ours; return its id."""
        spec = make_spec(self.cloud)
        if self.played is None:
            return self.rent(replace(spec, name="my-notebook", fence_id="", lease_id="", stop=None, end=None)).id
        pod_id = self.rent(spec).id
        disown(self.played, pod_id, spec)
        return pod_id

    def alive(self) -> set[str]:
        """Return the pods that the books know (this machine keeps none: that it lists)."""
        return {record["id"] for record in self.played.fleet.all()} if self.played else {pod.id for pod in self.open().list()}

    def creates(self) -> list[object]:
        """Return the answers to all creates so far; what is sent again with one idempotency key is one."""
        lines = [line for line in self.emulator.requests() if line.get("call") == "create"]
        return [*{line.get("once", number): line["status"] for number, line in enumerate(lines)}.values()]

    def lie(self, *names: str, times: int | None = None) -> None:
        """Switch faults on; one that hangs does it for a moment only."""
        for name in names:
            hangs = any(fault.name == name and fault.does.get("hang") for fault in self.emulator.cloud.faults)
            self.emulator.faults.on(name, times=times, **({"silent": _SILENT} if hangs else {}))

    def prove(self, pod_id: str, patience: float = 60.0) -> Proof:
        """End a pod as every verb does, and return what is proved."""
        return prove(self.cloud, [KnownPod(pod_id)], patience=patience, time=self.now, sleep=self.sleep)

    def run(self, pod_id: str, port: int) -> None:
        """Let a pod run, as far as the API can tell; a local one runs."""
        if self.played is None:
            return
        record = self.emulator.fleet.existing(pod_id)
        record["status"], record["started"], record["due"] = "RUNNING", self.emulator.fleet.now(), float("inf")
        record["port"], record["user"], record["workspace"] = port, "root", "/workspace"
        self.emulator.fleet.ledger.save(record)

    def clear(self) -> None:
        """Take everything of a case away."""
        if self.played:
            self.played.faults.off()
        for pod_id in self.alive():
            if self.played:
                self.played.fleet.delete(pod_id, "after a case")
            else:
                self.cloud.terminate(pod_id)
        if self.played:
            forget_ended(self.played)
        self._cloud.clear()
        self.at[0] = time.time()


@contextmanager
def account(cloud: str, folder: Path) -> Iterator[Account]:
    """Open an account at a cloud's emulator."""
    played = emulator_of(cloud)
    limits = {window.name: 10**9 for window in played.limits}
    emulator = start(played, folder / "cloud", timing=Timing(provisioning=1e9), limits=limits, env={})
    try:
        opened = Account(folder, emulator)
        emulator.fleet.now = opened.now  # what it shows for a while is over when its clients have slept so long
        yield opened
    finally:
        emulator.stop(end_pods=True)


def disown(emulator: Emulator, pod_id: str, spec: PodSpec) -> None:
    """Make a pod of ours somebody else's: its name and whatever else tells of us."""
    record = emulator.fleet.existing(pod_id)
    text = json.dumps(record["request"])
    for mark, other in ((record["name"], "my-notebook"), (spec.name, "my-notebook"), (spec.fence_id, ""), (spec.lease_id, "")):
        text = text.replace(mark, other)
    record["name"], record["request"] = "my-notebook", json.loads(text)


def forget_ended(emulator: Emulator) -> None:
    """Let nothing be known of pods that have ended: some clouds show them for a while."""
    for path in emulator.root.glob("gone/*.json"):
        path.unlink()


@contextmanager
def turned(now: Callable[[], float], sleep: Callable[[float], None]) -> Iterator[None]:
    """Let every client that is opened meanwhile wait on a clock of the test's."""
    usual = Pace.__init__.__defaults__
    Pace.__init__.__defaults__ = (now, sleep, lambda: 0.5)
    try:
        yield
    finally:
        Pace.__init__.__defaults__ = usual


def offers_of(cloud: Cloud) -> Iterator[Offer]:
    """Yield what a cloud rents out now, GPU by GPU."""
    for gpu in _GPUS:
        yield from _offers(cloud, gpu)


def make_spec(cloud: Cloud, **changes: object) -> PodSpec:
    """Return a spec of a pod of ours, of its own fence and lease."""
    fence, lease, end = new_id(), new_id(), datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    name = str(PodName(fence, lease, "pod", "0123abcd"))
    spec = PodSpec(
        name=name, fence_id=fence, lease_id=lease, stop=end - timedelta(minutes=30), end=end,
        image=IMAGE if "image" in entries()[cloud.name].settings else None, public_key="ssh-ed25519 AAAA me",
        host_key=host_key(b"s" * 32, name).private_pem,
        command=() if cloud.capabilities.ssh else ("sh", "-c", "true"), options=OPTIONS.get(cloud.name, {}),
    )  # fmt: skip
    return replace(spec, **changes)  # type: ignore[arg-type]


def _offers(cloud: Cloud, gpu: str) -> list[Offer]:
    try:
        return cloud.offers(OfferQuery(gpus=(gpu,)))
    except UserError:
        return []
