"""What Replicate's hardware is and costs: its API tells names alone, so prices stand here, as data. Makes no request.

What a price is not known of is not offered; REPLICATE_PRICES says others (``H100=5.49``: dollars an hour of one GPU).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from trainyard.clouds.values import text

SOURCE = "replicate.com/pricing as public copies of November 2026 have it"
_HOUR = 3600.0
_NAME = re.compile(r"(?:(\d+)x )?Nvidia (.+) GPU", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HardwareRate:
    """One type of GPU. ``per_second``: dollars; None: not known here."""

    id: str
    shown: str
    """What the API calls it between ``Nvidia`` and ``GPU``."""
    vram_gb: int
    per_second: float | None


RATES = (
    HardwareRate("T4", "T4", 16, 0.000225),
    HardwareRate("A40", "A40", 48, 0.000575),
    HardwareRate("A40-LARGE", "A40 (Large)", 48, 0.000725),
    HardwareRate("L40S", "L40S", 48, 0.000975),
    HardwareRate("A100", "A100 (80GB)", 80, 0.0014),
    HardwareRate("H100", "H100", 80, 0.001525),
    HardwareRate("H200", "H200", 141, None),
)


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a model may run on. ``hourly``: dollars for all of it; None: not known."""

    sku: str
    rate: HardwareRate
    count: int
    hourly: float | None


def read_hardware(rows: Iterable[Mapping[str, object]], own: Mapping[str, float]) -> Iterator[Hardware]:
    """Yield what of the API's list is a GPU that is known here."""
    for row in rows:
        match, sku = _NAME.fullmatch(text(row.get("name")) or ""), text(row.get("sku"))
        rate = next((rate for rate in RATES if match and rate.shown.lower() == match[2].lower()), None)
        if match and rate and sku:
            count = int(match[1] or 1)
            one = own.get(rate.id, rate.per_second * _HOUR if rate.per_second is not None else None)
            yield Hardware(sku, rate, count, None if one is None else round(one * count, 4))
