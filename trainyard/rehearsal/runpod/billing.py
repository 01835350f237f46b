"""The account's bill in RunPod's shape, made from the rehearsal's ledger: compute and disks apart, in buckets of the window asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.clock import format_time
from trainyard.rehearsal.kit import Paid

_SECONDS = {"hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400}
_WINDOW = 30 * 86400
"""Seconds before now that a bill begins at, unless another moment is asked for."""


@dataclass(frozen=True, slots=True)
class BillQuery:
    """What of the bill is asked for: epoch seconds, the size of a bucket by its name, one pod or all."""

    bucket: str = "day"
    pod_id: str | None = None
    start: float | None = None
    end: float | None = None
    last: int | None = None
    """So many buckets, the newest."""

    def window(self, now: float) -> tuple[float, float]:
        """Return begin and end, at the edges of buckets."""
        size = _SECONDS.get(self.bucket, 86400)
        end = self.end if self.end is not None else now
        end = end if end % size == 0 else end - end % size + size
        start = end - self.last * size if self.last else self.start if self.start is not None else now - _WINDOW
        return start - start % size, end


def report(paid: Sequence[Paid], now: float, asked: BillQuery) -> dict[str, object]:
    """Return ``GET /billing/pods``: one record a pod and bucket."""
    size, (begin, until) = _SECONDS.get(asked.bucket, 86400), asked.window(now)
    totals: dict[tuple[float, str], dict[str, float]] = defaultdict(lambda: {"gpuAmount": 0.0, "cpuAmount": 0.0, "diskAmount": 0.0})
    for stretch in paid:
        if asked.pod_id is not None and stretch.pod != asked.pod_id:
            continue
        start, end = max(begin, stretch.start), min(until, now if stretch.end is None else stretch.end)
        while start < end:
            floor = start - start % size
            upto = min(end, floor + size)
            amounts = totals[floor, stretch.pod]
            amounts["gpuAmount" if stretch.gpu else "cpuAmount"] += stretch.price * (upto - start) / 3600
            amounts["diskAmount"] += stretch.disk * (upto - start) / 3600
            start = upto
    records = [
        {"startTime": format_time(floor), "endTime": format_time(floor + size), "podId": pod, **_with_total(amounts)}
        for (floor, pod), amounts in sorted(totals.items())
    ]
    query = {"startTime": format_time(begin), "endTime": format_time(until), "bucketSize": asked.bucket, "podId": asked.pod_id}
    whole = {name: sum(amounts[name] for amounts in totals.values()) for name in ("gpuAmount", "cpuAmount", "diskAmount")}
    metadata = {
        "query": query,
        "recordCount": len(records),
        "uniquePodCount": len({pod for _, pod in totals}),
        "totals": _with_total(whole),
    }
    return {"records": records, "metadata": metadata}


def _with_total(amounts: dict[str, float]) -> dict[str, float]:
    return {"totalAmount": sum(amounts.values()), **amounts}
