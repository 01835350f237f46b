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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.yard import COUNT, ROOT, Yard
from trainyard.clock import parse_time
from trainyard.clouds.marker import PodName, parse_name
from trainyard.clouds.protocol import Cloud
from trainyard.clouds.runpod import RunPodCloud
from trainyard.config import Places, places
from trainyard.rehearsal.kit import Emulator, Paid, PodRecord, Timing, start
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.remote.transport import Address

QUICK = Timing(provisioning=0.05, starting=0.05, ports=0.1, lag=1.0)
GPU = "NVIDIA RTX A4000"
STACK = "runpod"


@dataclass
class RunPodYard(Yard):
    """One person's checkout whose stack ``runpod`` leads to the emulator."""

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
        """Write the stack's settings; ``None`` leaves a key out."""
        given = {"cloud": "runpod", "gpu": [GPU], "disk_gb": 5, "max_price": 4, "bucket": "none", "hours": 1, "rescue_minutes": 1}
        lines = [f"  trainyard:{key}: {value!r}" for key, value in {**given, **changes}.items() if value is not None]
        (self.root / f"Pulumi.{STACK}.yaml").write_text("config:\n" + "\n".join(lines) + "\n")

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
        return RunPodCloud.from_env(self.env)

    def train(self, *words: str, steps: int = 5, pause: float = 0.1, left_over: int = 0) -> tuple[str, ...]:
        """Return the words of a run of the counting script on the rented pod."""
        sets = ("--set", f"script={COUNT}", "--set", f"args={steps} {pause} {left_over}")
        return ("train", "--stack", STACK, "--recipe", "command", *sets, *words)


@dataclass
class World:
    """One account at the emulator, and the folder that everything of it lies in."""

    base: Path
    emulator: Emulator
    post_seconds: float = 4.0
    settle_seconds: float = 1.0
    _count: int = 0
    _ended: dict[str, float] = field(default_factory=dict)
    """Ends of the leases of pods that are gone: nothing changes there any more."""

    @property
    def env(self) -> dict[str, str]:
        """What all people of this account share."""
        return {
            **self.emulator.env,
            "RUNPOD_POST_SECONDS": str(self.post_seconds),
            "RUNPOD_SETTLE_SECONDS": str(self.settle_seconds),
            "TRAINYARD_LOCAL_ROOT": str(self.base / "o"),
            "XDG_CONFIG_HOME": str(self.base / "c"),
            # Where the CLI finds its plugins; a yard is given nothing else of Pulumi's from outside.
            **({"PULUMI_HOME": os.environ["PULUMI_HOME"]} if "PULUMI_HOME" in os.environ else {}),
        }

    def yard(self, user: str = "tester", **extra: str) -> RunPodYard:
        """Return a fresh checkout."""
        self._count += 1
        return RunPodYard(self.base / f"y{self._count}", extra, world=self, user=user)

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
        fresh = (path for path in (self.emulator.root / "gone").glob("*.json") if path.stem not in self._ended)
        self._ended |= _ends(json.loads(path.read_text()) for path in fresh)
        return self._ended | _ends(self.pods())

    def address(self, pod: str, key: Path) -> Address:
        """Return where a pod's SSH server answers, its host key as the pod's marker tells it."""
        info = RunPodCloud.from_env(self.env).get(pod)
        assert info is not None and info.ssh is not None, f"pod {pod} has no address"
        return Address(info.ssh.host, info.ssh.port, info.ssh.user, info.host_key, key)

    def wait_until(self, what: Any, seconds: float, why: str) -> None:
        """Wait until ``what()`` is true; fail after a generous time."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s in vain: {why}")
            time.sleep(0.03)

    def clear(self) -> None:
        """End every pod and fault, whatever a case has left."""
        self.emulator.faults.off()
        for record in self.pods():
            self.emulator.fleet.delete(record["id"], "cleared by the test")


@contextmanager
def world() -> Iterator[World]:
    """A world in a folder with a short path (Unix sockets allow no long one), gone at the end."""
    base = Path(tempfile.mkdtemp(prefix="tf", dir="/tmp"))
    emulator = start(RUNPOD, base / "e", timing=QUICK, limits={"minute": 10**6, "hour": 10**6, "day": 10**7}, env={})
    made = World(base, emulator)
    try:
        yield made
    finally:
        made.clear()
        emulator.stop(end_pods=True)
        env = {**RunPodYard(base / "end", world=made).env}
        subprocess.run([sys.executable, "-m", "invoke", "store.stop"], cwd=base / "end" / "w", env=env, capture_output=True, check=False)
        shutil.rmtree(base, ignore_errors=True)


def _ends(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    return {r["id"]: end.timestamp() for r in records if (end := parse_time(r["request"].get("env", {}).get("TRAINYARD_END")))}


def parts(paid: Paid) -> PodName | None:
    """Return the parts of a paid pod's name, None when it is not ours."""
    return parse_name(paid.name)
