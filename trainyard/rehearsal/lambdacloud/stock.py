"""What the rehearsal rents out, in the shape of Lambda's list of types; prices only have to be plausible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REGIONS = {"us-west-1": "California, USA", "us-east-1": "Virginia, USA", "us-south-1": "Texas, USA", "europe-central-1": "Germany"}


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One type: price in cents an hour, disk in GiB, and the regions that have it."""

    name: str
    gpu: str
    cents: int
    gpus: int
    memory_gb: int
    regions: tuple[str, ...]
    disk: int = 1400

    def shown(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        specs = {"vcpus": 30 * max(1, self.gpus), "memory_gib": 200 * max(1, self.gpus), "storage_gib": self.disk, "gpus": self.gpus}
        description = f"{self.gpus}x {self.gpu}"
        return {
            "name": self.name, "description": description, "gpu_description": self.gpu, "price_cents_per_hour": self.cents, "specs": specs,
        }  # fmt: skip


TYPES = (
    InstanceType("gpu_1x_a10", "A10 (24 GB PCIe)", 75, 1, 24, ("us-west-1", "us-east-1")),
    InstanceType("gpu_1x_a6000", "A6000 (48 GB)", 80, 1, 48, ("us-south-1",)),
    InstanceType("gpu_1x_a100_sxm4", "A100 (40 GB SXM4)", 129, 1, 40, ("us-east-1", "us-west-1"), 512),
    InstanceType("gpu_1x_gh200", "GH200 (96 GB)", 149, 1, 96, ("us-east-1",), 4096),
    InstanceType("gpu_1x_h100_pcie", "H100 (80 GB PCIe)", 249, 1, 80, ("us-west-1",), 1024),
    InstanceType("gpu_1x_h100_sxm5", "H100 (80 GB SXM5)", 329, 1, 80, ("us-south-1", "europe-central-1"), 2816),
    InstanceType("gpu_2x_h100_sxm5", "H100 (80 GB SXM5)", 638, 2, 80, ("us-south-1",), 5632),
    InstanceType("gpu_8x_h100_sxm5", "H100 (80 GB SXM5)", 2392, 8, 80, ("us-south-1",), 22528),
    InstanceType("gpu_8x_b200_sxm6", "B200 (180 GB SXM6)", 3992, 8, 180, ()),
    InstanceType("cpu_4x_general", "N/A", 20, 0, 0, ("us-west-1", "us-east-1"), 512),
)


def type_of(name: str) -> InstanceType | None:
    """Return a type by its name."""
    return next((kind for kind in TYPES if kind.name == name), None)


def region(name: str) -> dict[str, str]:
    """Return a region as the API shows it."""
    return {"name": name, "description": REGIONS[name]}
