"""A rehearsal cloud with checkouts around it: one account, any number of people who work on it.

The emulator runs in this process, so a test sees its ledger and faults at once and a SIGKILL of a controller never
touches it. Each checkout is a whole Trainyard of its own; what lies outside of checkouts (store, passphrase) is shared.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clouds.account import OPTIONS, offers_of
from tests.e2e.yard import COUNT, ROOT, Yard
from trainyard.clouds import open_cloud
from trainyard.clouds.protocol import Cloud, Offer, OfferQuery, PodInfo
from trainyard.config import Places, places
from trainyard.rehearsal.emulators import emulator_of
from trainyard.rehearsal.kit import Emulator, Paid, PodRecord, Timing, start
from trainyard.remote import hostkey
from trainyard.remote.transport import Address
from trainyard.settings.clouds import CloudEntry, entries

QUICK = Timing(provisioning=0.05, starting=0.05, ports=0.1, lag=1.0)
STACK = "runpod"
"""The stack of tests that are about one cloud; a stack here has the name of its cloud."""


@dataclass
class CloudYard(Yard):
    """One person's checkout whose stack leads to the emulator."""

    world: World = field(kw_only=True)
    user: str = "tester"

    def __post_init__(self) -> None:
        """Make the checkout with its settings."""
        self.base.mkdir(parents=True, exist_ok=True)
        super().__post_init__()
        if not (self.root / ".venv").exists():
            (self.root / ".venv").symlink_to(ROOT / ".venv")
        self.settings()

    def settings(self, **changes: Any) -> None:
        """Write the stack's settings; ``None`` leaves a key out, a function is asked with what is rented here."""
        offer = self.world.offer
        given = {
            "cloud": self.stack, "gpu": [offer.gpu], "disk_gb": 5, "max_price": round(20 * offer.price_per_hour, 2),
            "hours": 1, "rescue_minutes": 1, **({"bucket": "none"} if self.world.row.ssh else {"store": "local"}),
            **OPTIONS.get(self.stack, {}),
        }  # fmt: skip
        chosen = {key: value(offer) if callable(value) else value for key, value in {**given, **changes}.items()}
        lines = [f"  trainyard:{key}: {value!r}" for key, value in chosen.items() if value is not None]
        (self.root / f"Pulumi.{self.stack}.yaml").write_text("config:\n" + "\n".join(lines) + "\n")

    @property
    def stack(self) -> str:
        """The stack that leads to the emulator."""
        return self.world.stack

    @property
    def env(self) -> dict[str, str]:
        """The environment of its verbs: the account, the shared outside, this person."""
        return {**super().env, **self.world.env, "TRAINYARD_USER": self.user, **self.extra}

    @property
    def places(self) -> Places:
        """Where its things lie."""
        return places(self.root, self.env)

    @property
    def cloud(self) -> Cloud:
        """The account as this person sees it."""
        return open_cloud(self.stack, self.env, self.places)

    def has_model(self, label: str) -> bool:
        """Tell whether a run's model is where it is brought: home, or where nobody logs in into the bucket, with its marker."""
        model = Path("model", "model.txt")
        if self.world.row.ssh:
            return (self.root / "out" / self.user / label / model).is_file()
        attempts = self.places.store.glob(f"data/*/models/{self.user}/{label}/*")
        return any((attempt / model).is_file() and (attempt / "_SUCCESS").is_file() for attempt in attempts)

    def train(self, *words: str, steps: int = 5, pause: float = 0.1, left_over: int = 0) -> tuple[str, ...]:
        """Return the words of a run of the counting script on the rented pod."""
        sets = ("--set", f"script={COUNT}", "--set", f"args={steps} {pause} {left_over}")
        return ("train", "--stack", self.stack, "--recipe", "command", *sets, *words)


@dataclass
class World:
    """One account at the emulator, and the folder that everything of it lies in."""

    base: Path
    emulator: Emulator
    post_seconds: float = 4.0
    settle_seconds: float = 1.0
    _count: int = 0
    _offers: list[Offer] = field(default_factory=list)
    _ended: dict[str, PodInfo] = field(default_factory=dict)
    """Pods that are gone: nothing changes there any more."""

    @property
    def stack(self) -> str:
        """The name of cloud and stack."""
        return self.emulator.cloud.name

    @property
    def row(self) -> CloudEntry:
        """What the table says of the cloud."""
        return entries()[self.stack]

    @property
    def offer(self) -> Offer:
        """What is rented here: the cheapest of the emulator's GPUs that the tests know."""
        if not self._offers:
            self._offers.append(next(offers_of(self.cloud())))
        return self._offers[0]

    def sold_out(self) -> bool:
        """Tell whether nothing is left of what is rented here for an hour."""
        return not self.cloud().offers(OfferQuery(gpus=(str(self.offer.gpu),), disk_gb=5, hours=1))

    def cloud(self) -> Cloud:
        """The account."""
        return open_cloud(self.stack, self.env, places(self.base, {}))

    def has(self, fault: str) -> bool:
        """Tell whether this cloud's emulator knows a fault."""
        return any(row.name == fault for row in self.emulator.cloud.faults)

    def switch(self, fault: str, *, times: int | None = None, **does: Any) -> None:
        """Switch a fault on; one of another cloud (its second way to end a pod) is none here."""
        if self.has(fault):
            self.emulator.faults.on(fault, times=times, **does)

    @property
    def env(self) -> dict[str, str]:
        """What all people of this account share."""
        return {
            **self.emulator.env,
            **{name: str(self.post_seconds) for name in self.row.more if name.endswith("_POST_SECONDS")},
            **{name: str(self.settle_seconds) for name in self.row.more if name.endswith("_SETTLE_SECONDS")},
            "TRAINYARD_LOCAL_ROOT": str(self.base / "o"),
            "XDG_CONFIG_HOME": str(self.base / "c"),
            # Where the CLI finds its plugins; a yard is given nothing else of Pulumi's from outside.
            **({"PULUMI_HOME": os.environ["PULUMI_HOME"]} if "PULUMI_HOME" in os.environ else {}),
        }

    def yard(self, user: str = "", **extra: str) -> CloudYard:
        """Return a fresh checkout; unless a user is named, of one whose runs have names of their own in a bucket that all share."""
        self._count += 1
        user = user or ("tester" if self.row.ssh else f"tester{self._count}")
        return CloudYard(self.base / f"y{self._count}", extra, world=self, user=user)

    def pods(self) -> list[PodRecord]:
        """Return the emulator's records of all pods that exist: stopped ones too, and those whose machine is being ended."""
        return list(self.emulator.fleet.ledger.pods.values())

    def machines(self) -> list[str]:
        """Return the ids of pods that have a machine, whether the API knows them or not."""
        return list(self.emulator.fleet.machines.all())

    def paid(self, since: float = 0.0) -> list[Paid]:
        """Return the ledger's stretches that began after a moment."""
        return [paid for paid in self.emulator.ledger() if paid.start >= since]

    def ends(self) -> dict[str, float]:
        """Return the end of the lease of every pod that exists or has existed."""
        return {pod: info.end.timestamp() for pod, info in self.infos().items() if info.end is not None}

    def infos(self) -> dict[str, PodInfo]:
        """Return every pod that exists or has existed, in whatever form the cloud shows it, as its adapter reads it."""
        fresh = (path for path in (self.emulator.root / "gone").glob("*.json") if path.stem not in self._ended)
        self._ended |= self._read(json.loads(path.read_text()) for path in fresh)
        return self._ended | self._read(self.pods())

    def address(self, pod: str, key: Path) -> Address:
        """Return where a pod's SSH server answers, its host key as the pod's marker tells it."""
        info = self.cloud().get(pod)
        assert info is not None and info.ssh is not None, f"pod {pod} has no address"
        shown = info.host_key or hostkey.shown(info.ssh.host, info.ssh.port)  # at the first contact, where no marker tells it
        return Address(info.ssh.host, info.ssh.port, info.ssh.user, shown, key)

    def wait_until(self, what: Any, seconds: float, why: str) -> None:
        """Wait until ``what()`` is true; fail after a generous time."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s in vain: {why}")
            time.sleep(0.03)

    def _read(self, records: Iterable[PodRecord]) -> dict[str, PodInfo]:
        cloud = self.emulator.cloud
        assert cloud.read is not None, f"the emulator of {cloud.title} says by no `read` what its adapter makes of a pod"
        return {record["id"]: cloud.read(cloud.show(self.emulator.fleet, record)) for record in records}

    def clear(self) -> None:
        """End every pod and fault, whatever a case has left."""
        self.emulator.faults.off()
        for record in self.pods():
            self.emulator.fleet.delete(record["id"], "cleared by the test")


@contextmanager
def world(cloud: str = STACK) -> Iterator[World]:
    """A world of one cloud in a folder with a short path (Unix sockets allow no long one), gone at the end."""
    base = Path(tempfile.mkdtemp(prefix="tf", dir="/tmp"))
    played = emulator_of(cloud)
    emulator = start(played, base / "e", timing=QUICK, limits={window.name: 10**7 for window in played.limits}, env={})
    made = World(base, emulator)
    try:
        yield made
    finally:
        made.clear()
        env = {**CloudYard(base / "end", world=made).env}  # asks for offers where no test has: while somebody answers
        emulator.stop(end_pods=True)
        subprocess.run([sys.executable, "-m", "invoke", "store.stop"], cwd=base / "end" / "w", env=env, capture_output=True, check=False)
        shutil.rmtree(base, ignore_errors=True)
