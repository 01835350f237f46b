"""The two services of io.net as data: one API in two sets of words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class IonetService:
    """What its requests and answers are called where they differ."""

    name: str
    title: str
    path: str
    unit: str
    """``container``, ``vm``: what a deployment consists of, as fields name it."""
    units: str
    """What lists them below a deployment, and what a list holds of each under ``<unit>_events``."""
    room: str
    """What tells the locations with something free."""
    price: Mapping[str, str] = field(default_factory=dict)
    """What a question for a price says beside the others."""
    ssh: bool

    @property
    def gpus(self) -> str:
        """The field with the GPUs of each."""
        return f"gpus_per_{self.unit}"

    @property
    def most(self) -> str:
        """The most GPUs that one can have: a field, and the last part of the hardware's path."""
        return f"max_gpus_per_{self.unit}"


CONTAINERS = IonetService(
    name="ionet", title="io.net", path="caas", unit="container", units="containers", room="available-replicas", ssh=False
)
MACHINES = IonetService(
    name="ionet-vm", title="io.net", path="vmaas", unit="vm", units="vms", room="available-vms", price={"currency": "usdc"}, ssh=True
)
