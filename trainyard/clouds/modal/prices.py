"""What Modal rents and what it costs: its API tells neither, so both stand here, as data. Makes no request.

What a price is not known of is not offered; MODAL_PRICES says others (``H200=4.54,A10=1.10``: dollars an hour of one GPU).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "modal.com/pricing as it was quoted in May and June 2026"
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class GpuRate:
    """One type of GPU. ``per_second``: dollars; None: not known here."""

    id: str
    vram_gb: int
    per_second: float | None
    most: int = 8
    """GPUs that one sandbox may have."""


GPU_RATES = (
    GpuRate("T4", 16, 0.000164),
    GpuRate("L4", 24, 0.000222),
    GpuRate("A10", 24, None, most=4),
    GpuRate("L40S", 48, 0.000542),
    GpuRate("A100-40GB", 40, None),
    GpuRate("A100-80GB", 80, 0.000694),
    GpuRate("RTX-PRO-6000", 96, None),
    GpuRate("H100", 80, 0.001097),
    GpuRate("H200", 141, None),
    GpuRate("B200", 180, 0.001736),
)
CORES = 2.0
"""Physical cores (two threads each) for each GPU: asked for and, as a limit, never exceeded."""
MEMORY_GB = 16
"""Memory for each GPU that is asked for: what is used beyond it is billed beside the price."""
_CORE = 3 * 0.0000131
_MEMORY_GB = 3 * 0.00000222
"""Dollars a second of a core and of a GiB in a sandbox: three times a function's."""


def hourly(rate: GpuRate, count: int, own: Mapping[str, float]) -> float | None:
    """Return dollars an hour of a sandbox with so many GPUs, its cores and memory in it; None where the GPU's price is not known."""
    gpu = own.get(rate.id, rate.per_second * _HOUR if rate.per_second is not None else None)
    return None if gpu is None else round(count * (gpu + _HOUR * (CORES * _CORE + MEMORY_GB * _MEMORY_GB)), 4)


def rate_of(gpu: str) -> GpuRate | None:
    """Return the type of that id, None for one that is none."""
    return next((rate for rate in GPU_RATES if rate.id == gpu), None)
