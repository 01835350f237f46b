"""What the rehearsal brokers, in the shape of Prime Intellect's availability; prices only have to be plausible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UBUNTU = ("ubuntu_22_cuda_12", "cuda_12_6_pytorch_2_7")


@dataclass(frozen=True, slots=True)
class BrokeredType:
    """One offer of one provider; dollars an hour for all of its GPUs. ``disk``: its price for each GB, where it has one."""

    cloud_id: str
    gpu: str
    socket: str
    provider: str
    price: float
    place: tuple[str, str, str]
    """Region, country, data center."""
    count: int = 1
    security: str = "secure_cloud"
    spot: bool = False
    prepaid: float | None = None
    currency: str = "USD"
    stock: str = "Available"
    images: tuple[str, ...] = UBUNTU
    disk: float | None = None

    @property
    def memory_gb(self) -> int:
        """Memory of each GPU."""
        return int(self.gpu.rpartition("_")[2].removesuffix("GB") or 0) if self.gpu != "CPU_NODE" else 0

    def shown(self, *, sold_out: bool) -> dict[str, Any]:
        """Return it as the API shows it."""
        by = "onDemand" if self.security == "secure_cloud" else "communityPrice"
        sizes = {
            "minCount": 50,
            "defaultCount": 100,
            "maxCount": 2000,
            "step": 10,
            "pricePerUnit": self.disk,
            "defaultIncludedInPrice": False,
        }
        return {
            "cloudId": self.cloud_id, "gpuType": self.gpu, "socket": self.socket, "provider": self.provider, "region": self.place[0],
            "country": self.place[1], "dataCenter": self.place[2], "gpuCount": self.count, "gpuMemory": self.memory_gb,
            "disk": sizes if self.disk is not None else {}, "sharedDisk": {}, "vcpu": {"defaultCount": 16}, "memory": {"defaultCount": 64},
            "internetSpeed": 1000, "interconnect": None, "interconnectType": None, "provisioningTime": 5,
            "stockStatus": "Unavailable" if sold_out else self.stock, "security": self.security, "images": list(self.images),
            "prices": {"onDemand": None, "communityPrice": None, by: self.price, "isVariable": False, "currency": self.currency},
            "isSpot": self.spot or None, "prepaidTime": self.prepaid,
        }  # fmt: skip


_CANADA, _NORWAY, _KANSAS = ("canada", "CA", "CANADA-1"), ("eu_north", "NO", "NORWAY-1"), ("united_states", "US", "US-KS-2")
TYPES = (
    BrokeredType("NVIDIA GeForce RTX 4090", "RTX4090_24GB", "PCIe", "runpod", 0.69, _KANSAS),
    BrokeredType("rtx4090-oslo", "RTX4090_24GB", "PCIe", "massedcompute", 0.64, _NORWAY, disk=0.0002),
    BrokeredType("rtx4090-home", "RTX4090_24GB", "PCIe", "akash", 0.31, _NORWAY, security="community_cloud"),
    BrokeredType("rtx4090-spot", "RTX4090_24GB", "PCIe", "datacrunch", 0.28, _NORWAY, spot=True),
    BrokeredType("rtx4090-month", "RTX4090_24GB", "PCIe", "latitude", 0.11, _KANSAS, prepaid=720),
    BrokeredType("rtx4090-euro", "RTX4090_24GB", "PCIe", "scaleway", 0.20, _NORWAY, currency="EUR"),
    BrokeredType("n3-L40x1", "L40S_48GB", "PCIe", "hyperstack", 1.05, _CANADA),
    BrokeredType("n3-H100x1", "H100_80GB", "PCIe", "hyperstack", 1.95, _CANADA, disk=0.0001),
    BrokeredType("gpu_1x_h100_sxm5", "H100_80GB", "SXM5", "lambdalabs", 2.99, _KANSAS),
    BrokeredType("gpu_8x_h100_sxm5", "H100_80GB", "SXM5", "lambdalabs", 19.9, _KANSAS, count=8, stock="Low"),
    BrokeredType("b200-axolotl", "B200_180GB", "SXM6", "nebius", 4.9, _NORWAY, images=("axolotl",)),
    BrokeredType("cpu-small", "CPU_NODE", "PCIe", "hyperstack", 0.06, _CANADA),
)
