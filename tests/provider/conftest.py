"""The bench of leases, with handlers called as an engine would call them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.leases.bench import FENCE, KEY, LEASE, LeaseBench, new_bench
from trainyard.provider.call import Call
from trainyard.provider.handler import ResourceHandler, check
from trainyard.provider.values import Properties, Tree

SEED = "5a" * 32


@dataclass
class Bench(LeaseBench):
    """A bench on which handlers are called."""

    def call(self, name: str = "pod", kind: str = "Pod", *, stack: str = "dev", preview: bool = False) -> Call:
        return Call(self.world, f"urn:pulumi:{stack}::trainyard::trainyard:index:{kind}::{name}", name, preview)

    def checked(self, handler: ResourceHandler, inputs: Properties, olds: Properties | None = None, **more: object) -> Properties:
        kind = handler.token.rpartition(":")[2]
        return check(handler, self.call(kind=kind, **more), olds, inputs)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = new_bench(tmp_path)
    return Bench(made.world, made.cloud, made.messages, made.slept, made.at, made.during)


def pod_inputs(**more: Tree) -> Properties:
    """Inputs of a pod that is valid on the model cloud."""
    inputs: Properties = {
        "cloud": "model", "lease_id": LEASE, "fence_id": FENCE, "stop": "2027-01-15T10:00:00Z", "end": "2027-01-15T10:30:00Z",
        "host_key_seed": SEED, "public_key": KEY, "gpus": ["A", "B"],
    }  # fmt: skip
    return {**inputs, **more}
