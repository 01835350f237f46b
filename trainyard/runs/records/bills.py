"""What the cloud itself bills for a run's pods, beside what was reckoned, as the record keeps both.

A bill may come hours late, and grow: it is taken for whole when it was asked for SETTLED seconds after the pod's end.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

from trainyard.runs.records import pods
from trainyard.runs.records.parts import PaidPod
from trainyard.runs.records.record import RunRecord

SETTLED = 6 * 3600.0
AGAIN = 1800.0
"""Seconds after which a bill that is not whole is asked for again."""
_SHARE, _DOLLARS = 0.05, 0.02
"""By so much bill and reckoning may differ before it is said: a share of what was reckoned, or dollars, whichever is more."""


@dataclass(frozen=True, slots=True)
class RunBill:
    """What the cloud bills for a run so far, and what was reckoned, in dollars."""

    billed: float
    computed: float
    whole: bool

    @property
    def differs(self) -> bool:
        """Tell whether they differ by more than is tolerated; of a bill that may still grow only what is too much counts."""
        apart = self.billed - self.computed
        return (apart if not self.whole else abs(apart)) > max(_SHARE * self.computed, _DOLLARS)

    def __str__(self) -> str:
        """Say both."""
        return f"${self.billed:.2f} billed by the cloud{'' if self.whole else ' so far'}, ${self.computed:.2f} reckoned here"


def bill_of(record: RunRecord) -> RunBill | None:
    """Return the bill of a run as its record has it; None where the cloud has sent none."""
    known = [pod.billed for pod in record.pods if pod.billed is not None]
    if not known:
        return None
    return RunBill(
        round(sum(known), 6),
        round(pods.cost(record, record.ended or time.time()), 6),
        len(known) == len(record.pods) and all(map(_is_whole, record.pods)),
    )


def due(record: RunRecord, now: float) -> list[str]:
    """Return the pods whose bill is to be asked for: they are gone, and what is known of it is neither whole nor a moment old."""
    return [pod.pod_id for pod in record.pods if _is_due(pod, now)]


def take(record: RunRecord, pod_id: str, dollars: float, now: float) -> None:
    """Keep what the cloud bills for a pod; nothing at all, soon after its end, is a bill that is not there yet."""
    record.pods = [_with_bill(pod, dollars, now) if pod.pod_id == pod_id else pod for pod in record.pods]


def _with_bill(pod: PaidPod, dollars: float, now: float) -> PaidPod:
    """Return a pod with its bill; nothing at all, soon after its end, is a bill that is not there yet."""
    late = pod.ended is not None and now >= pod.ended + SETTLED
    return dataclasses.replace(pod, billed=dollars if dollars or late else None, bill_time=now)


def _is_whole(pod: PaidPod) -> bool:
    return pod.ended is not None and pod.bill_time is not None and pod.bill_time >= pod.ended + SETTLED


def _is_due(pod: PaidPod, now: float) -> bool:
    return pod.ended is not None and not _is_whole(pod) and (pod.bill_time is None or now >= pod.bill_time + AGAIN)
