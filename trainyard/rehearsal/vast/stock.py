"""What the emulated marketplace has: machines of several hosts, each with prices, a place and flaws of its own, and the search for them.

Prices are near those of 2026 and only have to be plausible: nobody pays them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.rehearsal.kit import HttpProblem

HOURS_A_MONTH = 720.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One offer. Dollars are an hour's for all its GPUs, ``storage`` a GB's for a month, ``traffic`` a GB's. ``ram`` is the driver's MB."""

    id: int
    gpu: str
    ram: int
    base: float
    least_bid: float
    storage: float
    place: str
    count: int = 1
    disk: float = 1000.0
    reliability: float = 0.99
    down: float = 800.0
    cuda: float = 13.0
    ports: int = 200
    days: float = 60.0
    traffic: float = 0.002
    verified: bool = True
    datacenter: bool = False

    def row(self, disk_gb: float, now: float, *, bid: bool = False) -> dict[str, Any]:
        """Return the offer as a search shows it, at its price with so much disk."""
        hourly, disk = self.least_bid if bid else self.base, self.storage * disk_gb / HOURS_A_MONTH
        return {
            "id": self.id, "ask_contract_id": self.id, "machine_id": self.id % 1000, "host_id": self.id % 100, "gpu_name": self.gpu,
            "num_gpus": self.count, "gpu_ram": self.ram, "gpu_total_ram": self.ram * self.count, "dph_base": hourly,
            "dph_total": round(hourly + disk, 6), "min_bid": self.least_bid, "storage_cost": self.storage,
            "storage_total_cost": disk, "inet_down_cost": self.traffic, "inet_up_cost": self.traffic,
            "inet_down": self.down, "inet_up": self.down,
            "disk_space": self.disk, "reliability": self.reliability, "reliability2": self.reliability, "cuda_max_good": self.cuda,
            "direct_port_count": self.ports, "duration": self.days * 86400, "end_date": now + self.days * 86400,
            "verified": self.verified, "verification": "verified" if self.verified else "unverified", "datacenter": self.datacenter,
            "rentable": True, "rented": False, "external": False, "cpu_arch": "amd64", "is_bid": bid, "static_ip": True,
            "geolocation": self.place, "driver_version": "580.95.05", "compute_cap": 900, "public_ipaddr": "127.0.0.1",
        }  # fmt: skip


ASKS = (
    Ask(2101, "RTX 5090", 32607, 0.62, 0.31, 0.15, "Stockholm, SE"),
    Ask(2102, "RTX 5090", 32607, 0.58, 0.30, 0.20, "California, US", reliability=0.962),
    Ask(2103, "RTX 5090", 32607, 0.41, 0.22, 0.10, ", CN", reliability=0.71),
    Ask(2104, "RTX 5090", 32607, 0.44, 0.22, 0.10, "Quebec, CA", ports=0),
    Ask(2105, "RTX 5090", 32607, 0.43, 0.21, 0.10, "Texas, US", days=0.01),
    Ask(2107, "RTX 5090", 32607, 0.42, 0.21, 0.10, "Norway, NO", traffic=0.2),
    Ask(2106, "RTX 5090", 32607, 1.30, 0.65, 0.15, "Stockholm, SE", count=2),
    Ask(2201, "RTX 4090", 24564, 0.36, 0.18, 0.12, "Quebec, CA"),
    Ask(2206, "RTX 4090", 24564, 0.37, 0.19, 0.12, "Quebec, CA"),
    Ask(2207, "RTX 4090", 24564, 0.38, 0.19, 0.12, "Utah, US"),
    Ask(2202, "RTX 4090", 24564, 0.31, 0.15, 0.10, "Hesse, DE", verified=False),
    Ask(2203, "RTX 4090", 24564, 0.55, 0.30, 0.20, "Norway, NO", datacenter=True),
    Ask(2204, "RTX 4090", 24564, 0.29, 0.16, 0.10, "Tokyo, JP", cuda=12.4),
    Ask(2205, "RTX 4090", 24564, 0.28, 0.16, 0.10, "Sofia, BG", down=20.0),
    Ask(2301, "H100 SXM", 81559, 1.90, 1.10, 0.20, "Iceland, IS", datacenter=True),
    Ask(2302, "H100 SXM", 81559, 15.6, 9.0, 0.20, "Iceland, IS", count=8, datacenter=True),
    Ask(2401, "A100 SXM4", 40960, 0.75, 0.40, 0.15, "Virginia, US"),
    Ask(2402, "A100 SXM4", 81920, 0.98, 0.55, 0.15, "Virginia, US", datacenter=True),
    Ask(2501, "RTX PRO 6000 WS", 97887, 1.05, 0.60, 0.18, "Finland, FI"),
    Ask(2601, "Tesla T4", 15360, 0.12, 0.06, 0.10, "Ohio, US"),
)
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "neq": operator.ne, "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
    "in": lambda value, several: value in several, "notin": lambda value, several: value not in several,
}  # fmt: skip


def ask_of(ask_id: str) -> Ask | None:
    """Return the offer of an id."""
    return next((ask for ask in ASKS if str(ask.id) == ask_id), None)


def search(body: Mapping[str, Any], taken: Collection[str], now: float) -> list[dict[str, Any]]:
    """Return what a search finds; raises HttpProblem for filters that are none."""
    rows = [ask.row(body.get("allocated_storage", 8.0), now, bid=body.get("type") == "bid") for ask in ASKS if str(ask.id) not in taken]
    filters = {key: value for key, value in body.items() if isinstance(value, dict)}
    matching = [row for row in rows if all(_fits(row, key, bounds) for key, bounds in filters.items())]
    for column, direction in reversed(body.get("order", [])):
        matching.sort(key=lambda row: row[column], reverse=direction == "desc")
    return matching[: body.get("limit", 64)]


def _fits(row: Mapping[str, Any], key: str, bounds: Mapping[str, Any]) -> bool:
    if key not in row or not bounds.keys() <= _OPERATORS.keys():
        raise HttpProblem(400, f"Error in query parameters: {key} is not a valid search key", "invalid_request")
    # Places are searched by their country's two letters and shown in words; names of GPUs are with spaces, underscores find nothing.
    value = row[key].rpartition(", ")[2] if key == "geolocation" else row[key]
    return all(_OPERATORS[word](value, each) for word, each in bounds.items())
