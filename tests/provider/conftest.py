"""A world with a clock of its own: waiting takes no time, every wait is on record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.provider.model_cloud import ModelCloud
from trainyard.clouds.protocol import PodInfo
from trainyard.config import Places
from trainyard.leases.world import Control, OperationWorld
from trainyard.provider.call import Call
from trainyard.provider.handler import ResourceHandler, check
from trainyard.provider.values import Properties

FENCE, LEASE = "f" * 10, "1" * 10
SEED = "5a" * 32
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEaJZrlOV5pY6EWL/xSlOVwBMHnRBF34V6QTQjTI88O9"


@dataclass
class Bench:
    """One machine, one cloud account, one clock."""

    world: OperationWorld
    cloud: ModelCloud
    messages: list[str]
    slept: list[float]
    at: list[float]
    during: list[Callable[[], None]] = field(default_factory=list)
    """Called once each, one at every wait."""

    def call(self, name: str = "pod", kind: str = "Pod", *, stack: str = "dev", preview: bool = False) -> Call:
        return Call(self.world, f"urn:pulumi:{stack}::trainyard::trainyard:index:{kind}::{name}", name, preview)

    def checked(self, handler: ResourceHandler, inputs: Properties, olds: Properties | None = None, **more: object) -> Properties:
        kind = handler.token.rpartition(":")[2]
        return check(handler, self.call(kind=kind, **more), olds, inputs)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    at, slept, messages = [1_800_000_000.0], [], []
    during: list[Callable[[], None]] = []

    def pause(seconds: float) -> None:
        slept.append(seconds)
        at[0] += max(seconds, 0.001)
        if during:
            during.pop(0)()

    cloud = ModelCloud(tmp_path / "cloud", lambda: at[0])
    places = Places(root=tmp_path, home=tmp_path / "home", outside=tmp_path / "outside", settings=tmp_path / "settings")
    world = OperationWorld({}, places, lambda name: cloud, Control(), lambda text, severity: messages.append(text), lambda: at[0], pause)
    return Bench(world, cloud, messages, slept, at, during)


def lie_once_from(bench: Bench, moment: float) -> None:
    """Let the first listing at or after a moment be empty, whatever there is: clouds were seen to do that."""
    real, lies = bench.cloud.list, [True]

    def listing() -> list[PodInfo]:
        found = real()
        return [] if bench.at[0] >= moment and lies and lies.pop() else found

    bench.cloud.list = listing  # type: ignore[method-assign]


def pod_inputs(**more: object) -> Properties:
    """Inputs of a pod that is valid on the model cloud."""
    inputs: dict[str, object] = {
        "cloud": "model", "lease_id": LEASE, "fence_id": FENCE, "stop": "2027-01-15T10:00:00Z", "end": "2027-01-15T10:30:00Z",
        "host_key_seed": SEED, "public_key": KEY, "gpus": ["A", "B"],
    }  # fmt: skip
    return {**inputs, **more}  # type: ignore[return-value]
