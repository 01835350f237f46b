"""What the rehearsal rents out, in the shape of JarvisLabs' list of GPUs; prices only have to be plausible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REGIONS = ("india-noida-01", "india-chennai-01", "europe-01")
HOME = REGIONS[0]


@dataclass(frozen=True, slots=True)
class JarvisType:
    """One type of GPU in one region: dollars an hour of each, how many are free."""

    gpu: str
    region: str
    price: float
    memory_gb: int
    spot: float | None = None
    free: int = 8
    workload: str | None = None

    def shown(self, *, sold_out: bool) -> dict[str, Any]:
        """Return it as the API shows it: what there is none of is an empty text."""
        free = 0 if sold_out else self.free
        return {
            "gpu_type": self.gpu, "region": self.region, "num_free_devices": free or "", "effective_num_free_devices": free or "",
            "spot_num_free_devices": free if self.spot else None, "price_per_hour": self.price, "spot_price": self.spot,
            "vram": str(self.memory_gb), "arc": "Hopper", "cpus_per_gpu": 16, "ram_per_gpu": 200, "workload_type": self.workload,
        }  # fmt: skip


TYPES = (
    JarvisType("RTX5000", HOME, 0.39, 16),
    JarvisType("L4", HOME, 0.44, 24, workload="container"),
    JarvisType("A5000", "india-chennai-01", 0.49, 24),
    JarvisType("A6000", "india-chennai-01", 0.79, 48, spot=0.49),
    JarvisType("A100", HOME, 1.29, 40, spot=0.69),
    JarvisType("A100-80GB", HOME, 1.49, 80),
    JarvisType("H100", HOME, 2.69, 80, spot=1.49, workload="container"),
    JarvisType("H100", HOME, 2.99, 80, workload="vm"),
    JarvisType("H100", "europe-01", 2.99, 80),
    JarvisType("H200", "europe-01", 3.80, 141),
    JarvisType("H200", HOME, 3.80, 141, free=0),
)


def type_of(gpu: str, region: str) -> JarvisType | None:
    """Return what a create of a container in a region means by a GPU's name."""
    return next((kind for kind in TYPES if (kind.gpu, kind.region) == (gpu, region) and kind.workload != "vm"), None)
