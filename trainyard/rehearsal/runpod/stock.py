"""What the rehearsal rents out: GPU types, processors and data centers in the shape of RunPod's catalog.

Prices are near RunPod's list prices of 2026 and only have to be plausible: nobody pays them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.clouds import gpus

CENTERS: Mapping[str, tuple[str, str]] = {
    "US-KS-2": ("US Kansas 2", "NORTH_AMERICA"),
    "US-CA-2": ("US California 2", "NORTH_AMERICA"),
    "US-TX-3": ("US Texas 3", "NORTH_AMERICA"),
    "CA-MTL-3": ("CA Montreal 3", "NORTH_AMERICA"),
    "EU-RO-1": ("EU Romania 1", "EUROPE"),
    "EU-CZ-1": ("EU Czechia 1", "EUROPE"),
    "EUR-IS-1": ("EU Iceland 1", "EUROPE"),
    "AP-JP-1": ("Japan 1", "ASIA"),
}
OLD_DRIVERS = ("US-KS-2", "EU-CZ-1")
"""Data centers whose machines stop at CUDA 12.8; all others carry 13.0."""
_STOCK = ("HIGH", "MEDIUM", "LOW")


@dataclass(frozen=True, slots=True)
class Type:
    """One GPU type: dollars per hour and GPU on both tiers and as spot, and where it stands."""

    id: str
    secure: float
    community: float
    spot: float
    centers: tuple[str, ...]
    most: int = 8

    @property
    def memory(self) -> int:
        """Its memory in GB."""
        return gpus.find(self.id)[0].vram_gb

    @property
    def label(self) -> str:
        """Its short name."""
        return gpus.find(self.id)[0].name


TYPES = (
    Type("NVIDIA GeForce RTX 5090", 0.94, 0.69, 0.53, ("EU-RO-1", "US-CA-2", "EUR-IS-1")),
    Type("NVIDIA GeForce RTX 4090", 0.69, 0.34, 0.29, ("US-KS-2", "EU-RO-1", "EU-CZ-1")),
    Type("NVIDIA GeForce RTX 3090", 0.46, 0.22, 0.19, ("EU-CZ-1",)),
    Type("NVIDIA RTX A4000", 0.25, 0.17, 0.12, ("EU-RO-1", "EU-CZ-1")),
    Type("NVIDIA RTX A6000", 0.49, 0.33, 0.25, ("US-TX-3", "EU-RO-1")),
    Type("NVIDIA RTX 6000 Ada Generation", 0.77, 0.74, 0.46, ("US-TX-3",)),
    Type("NVIDIA L4", 0.39, 0.44, 0.22, ("EU-RO-1",)),
    Type("NVIDIA L40S", 0.86, 0.79, 0.43, ("US-TX-3", "EU-RO-1")),
    Type("NVIDIA A100 80GB PCIe", 1.64, 1.19, 0.82, ("US-KS-2", "CA-MTL-3")),
    Type("NVIDIA A100-SXM4-80GB", 1.74, 1.39, 0.95, ("US-KS-2", "EUR-IS-1")),
    Type("NVIDIA H100 PCIe", 2.39, 1.99, 1.35, ("US-KS-2", "CA-MTL-3")),
    Type("NVIDIA H100 80GB HBM3", 2.99, 2.69, 1.75, ("US-KS-2", "EUR-IS-1", "AP-JP-1")),
    Type("NVIDIA H100 NVL", 2.79, 2.59, 1.65, ("US-KS-2",)),
    Type("NVIDIA H200", 3.99, 3.59, 2.29, ("US-CA-2", "EUR-IS-1")),
    Type("NVIDIA B200", 5.98, 5.49, 3.59, ("US-CA-2", "EU-RO-1")),
    Type("NVIDIA RTX PRO 6000 Blackwell Server Edition", 1.89, 1.69, 0.99, ("US-CA-2", "EU-RO-1")),
)
CPUS: Mapping[str, tuple[str, str, float, float]] = {
    "cpu3c": ("Compute-Optimized", "Gen 3", 2.0, 0.03),
    "cpu5c": ("Compute-Optimized", "Gen 5", 2.0, 0.035),
    "cpu3g": ("General Purpose", "Gen 3", 4.0, 0.04),
}
"""Flavor -> name, generation, GB of memory and dollars per hour, both per processor."""


CPU_CENTERS = ("EU-RO-1", "US-TX-3")


def gpu(type_id: str) -> Type | None:
    """Return a GPU type by its id."""
    return next((kind for kind in TYPES if kind.id == type_id), None)


def disk_price(request: Mapping[str, Any]) -> float:
    """Return the dollars an hour of a running pod's disks: RunPod bills the container's disk and the pod's volume per GB and month."""
    persistent = (request.get("mounts") or {}).get("persistent") or {}
    return float(request.get("disk", 50) + persistent.get("size", 0)) * 0.10 * 12 / (365 * 24)


def price(type_id: str, count: int, tier: str, *, spot: bool = False) -> float:
    """Return dollars per hour of a pod."""
    kind = gpu(type_id)
    if kind is None:
        raise KeyError(type_id)
    return round(count * (kind.spot if spot else kind.secure if tier == "SECURE" else kind.community), 6)


def cuda(center: str) -> tuple[int, int]:
    """Return the CUDA version of a data center's machines."""
    return (12, 8) if center in OLD_DRIVERS else (13, 0)


def carries(center: str, least: str | None) -> bool:
    """Tell whether a data center's machines carry a CUDA version (``13`` or ``12.8``), compared as numbers."""
    return least is None or cuda(center) >= tuple(int(part) for part in least.split("."))


def gpu_rows(
    sold_out: frozenset[str], *, availability: bool, countries: Sequence[str] = (), least: str | None = None
) -> list[dict[str, object]]:
    """Return the ``gpus`` of the catalog; ``sold_out`` holds GPU types, data centers or ``type@center``."""
    rows = []
    for kind in TYPES:
        here = [c for c in kind.centers if (not countries or c[:2] in countries) and carries(c, least)]
        row: dict[str, object] = {
            "id": kind.id,
            "name": kind.label,
            "pool": None,
            "manufacturer": "NVIDIA",
            "memory": kind.memory,
            "secure": True,
            "community": True,
            "price": {"secure": kind.secure, "community": kind.community},
            "maxCount": {"secure": kind.most, "community": kind.most},
        }
        if availability:
            levels = {c: "NONE" if is_sold_out(sold_out, kind.id, c) else _STOCK[min(i, 2)] for i, c in enumerate(here)}
            row["availability"] = min(levels.values(), key=(*_STOCK, "NONE").index, default="NONE")
            row["dataCenters"] = [{"id": c, "name": CENTERS[c][0], "availability": level} for c, level in levels.items()]
        if here:
            rows.append(row)
    return rows


def cpu_rows(sold_out: frozenset[str], *, availability: bool) -> list[dict[str, object]]:
    """Return the ``cpus`` of the catalog."""
    rows = []
    for flavor, (name, group, memory, each) in CPUS.items():
        row: dict[str, object] = {
            "id": flavor,
            "name": name,
            "group": group,
            "vcpu": {"min": 2, "max": 32},
            "ramGbPerVcpu": memory,
            "price": {"securePerVcpu": each, "serverlessPerVcpu": each},
        }
        if availability:
            centers = [c for c in CPU_CENTERS if not is_sold_out(sold_out, flavor, c)]
            row["availability"] = "HIGH" if centers else "NONE"
            row["dataCenters"] = [{"id": c, "name": CENTERS[c][0], "availability": "HIGH"} for c in centers]
        rows.append(row)
    return rows


def center_rows(regions: Sequence[str]) -> list[dict[str, object]]:
    """Return the ``dataCenters`` of the catalog."""
    return [
        {"id": c, "name": name, "region": region, "globalNetwork": False, "networkVolumeTypes": ["STANDARD"], "compliance": []}
        for c, (name, region) in CENTERS.items()
        if not regions or region in regions
    ]


def is_sold_out(sold_out: frozenset[str], type_id: str, center: str) -> bool:
    """Tell whether a type cannot be had in a data center."""
    return bool(sold_out & {"*", type_id, center, f"{type_id}@{center}"})
