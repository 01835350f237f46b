"""The account's bill in RunPod's shape, made from the rehearsal's ledger."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.clock import format_time
from trainyard.rehearsal.runpod.ledger import Paid

_SECONDS = {"hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400}


def report(paid: Sequence[Paid], now: float, bucket: str, pod_id: str | None) -> dict[str, object]:
    """Return ``GET /billing/pods``: one record a pod and bucket."""
    size = _SECONDS.get(bucket, 86400)
    totals: dict[tuple[float, str], float] = {}
    for stretch in paid:
        if pod_id is not None and stretch.pod != pod_id:
            continue
        end = now if stretch.end is None else stretch.end
        start = stretch.start
        while start < end:
            floor = start - start % size
            upto = min(end, floor + size)
            key = (floor, stretch.pod)
            totals[key] = totals.get(key, 0.0) + stretch.price * (upto - start) / 3600
            start = upto
    records = [
        {"startTime": format_time(floor), "endTime": format_time(floor + size), "podId": pod, **_amounts(amount)}
        for (floor, pod), amount in sorted(totals.items())
    ]
    first = min((floor for floor, _ in totals), default=now - now % size)
    query = {"startTime": format_time(first), "endTime": format_time(now - now % size + size), "bucketSize": bucket, "podId": pod_id}
    metadata = {
        "query": query,
        "recordCount": len(records),
        "uniquePodCount": len({pod for _, pod in totals}),
        "totals": _amounts(sum(totals.values())),
    }
    return {"records": records, "metadata": metadata}


def _amounts(amount: float) -> dict[str, float]:
    return {"totalAmount": amount, "gpuAmount": amount, "cpuAmount": 0.0, "diskAmount": 0.0}
