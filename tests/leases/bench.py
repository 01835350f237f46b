"""A world with a clock of its own: waiting takes no time, every wait is on record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.leases.model_cloud import ModelCloud
from trainyard.clouds.protocol import PodInfo
from trainyard.config import Places
from trainyard.leases.world import Control, OperationWorld

FENCE, LEASE = "f" * 10, "1" * 10
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEaJZrlOV5pY6EWL/xSlOVwBMHnRBF34V6QTQjTI88O9"


@dataclass
class LeaseBench:
    """One machine, one cloud account, one clock."""

    world: OperationWorld
    cloud: ModelCloud
    messages: list[str]
    slept: list[float]
    at: list[float]
    during: list[Callable[[], None]] = field(default_factory=list)
    """Called once each, one at every wait."""


def new_bench(folder: Path) -> LeaseBench:
    at = [1_800_000_000.0]
    slept: list[float] = []
    messages: list[str] = []
    during: list[Callable[[], None]] = []

    def pause(seconds: float) -> None:
        slept.append(seconds)
        at[0] += max(seconds, 0.001)
        if during:
            during.pop(0)()

    cloud = ModelCloud(folder / "cloud", lambda: at[0])
    places = Places(root=folder, home=folder / "home", outside=folder / "outside", settings=folder / "settings")
    world = OperationWorld({}, places, lambda name: cloud, Control(), lambda text, severity: messages.append(text), lambda: at[0], pause)
    return LeaseBench(world, cloud, messages, slept, at, during)


def lie_once_from(bench: LeaseBench, moment: float) -> None:
    """Let the first listing at or after a moment be empty, whatever there is: clouds were seen to do that."""
    real, lies = bench.cloud.list, [True]

    def listing() -> list[PodInfo]:
        found = real()
        return [] if bench.at[0] >= moment and lies and lies.pop() else found

    bench.cloud.list = listing  # type: ignore[method-assign]
