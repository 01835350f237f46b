"""Every pod that was accepted for a run: what it costs from then on to its proven end, booted or not.

Kept in ``RunRecord.pods``, so that a killed controller's successor counts on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trainyard.clock import format_time, parse_time
from trainyard.clouds.absence import KnownPod, Proof
from trainyard.clouds.listing import there
from trainyard.clouds.protocol import Cloud, PodInfo
from trainyard.leases import intents
from trainyard.runs.records.parts import PaidPod
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.stackresources import POD, leases_in, pods_in
from trainyard.settings import clouds
from trainyard.stacks.model import Event, OnEvent


def take_known(record: RunRecord, resources: Sequence[Event], root: Path) -> None:
    """Note the pods that intents (below ``root``) and the state of the run's stack name, booted or not."""
    named = {lease.lease_id for lease in leases_in(resources, replaced=True) if lease.lease_id}
    for lease_id in sorted(named | leases_of(record)):
        for taken in intents.accepted(root, lease_id):
            note(record, PaidPod(taken.id, taken.price, taken.at, offer=taken.offer, ended=taken.ended))
    for pod in pods_in(resources, replaced=True):
        if pod.id:
            accepted = _accepted(record, pod.created)
            note(record, PaidPod(pod.id, pod.price_per_hour, accepted, pod.gpu, pod.gpu_count, pod.region, pod.offer))


def leases_of(record: RunRecord) -> set[str]:
    """Return the leases that a record knows."""
    return {pod.lease_id for pod in record.group if pod.lease_id}


def take_from_cloud(record: RunRecord, pod: PodInfo) -> None:
    """Note a pod as the cloud shows it."""
    accepted = pod.created.timestamp() if pod.created else time.time()
    note(record, PaidPod(pod.id, pod.price_per_hour, accepted, pod.gpu, pod.gpu_count, pod.region))


def note(record: RunRecord, fresh: PaidPod) -> None:
    """Add a pod; of one that is known only what was not known is taken."""
    before = next((pod for pod in record.pods if pod.pod_id == fresh.pod_id), None)
    if before is None:
        record.pods.append(fresh)
        return
    kept = {key: value for key, value in dataclasses.asdict(before).items() if value not in (None, 0)}
    _replace(record, dataclasses.replace(fresh, **kept))


def note_deleted(record: RunRecord, at: float | None, still_there: Iterable[Event]) -> None:
    """Note when the engine deleted the pods that its state does not name any more."""
    named = {pod.id for pod in pods_in(still_there, replaced=True) if not pod.deleted}
    for pod in record.pods:
        if at is not None and pod.pod_id not in named and pod.ended is None and pod.deleted is None:
            _replace(record, dataclasses.replace(pod, deleted=at))


def note_gone(record: RunRecord, at: datetime | None) -> None:
    """Note when a run's pod had nothing left to do and ended itself; should it still be there, its proven end counts.

    Where a cloud lets no pod end itself it stays, and is paid for, until it is ended from outside.
    """
    if _only_from_outside(record):
        return
    for pod in record.pods:
        if at is not None and pod.pod_id == record.pod.pod_id and pod.ended is None and pod.deleted is None:
            _replace(record, dataclasses.replace(pod, deleted=at.timestamp(), by_itself=True))


def note_bill(record: RunRecord, billed: Callable[[str], float | None]) -> None:
    """Let the cloud's bill count where it says more than a pod that was to end itself; whether it is gone is not asked here."""
    for pod in record.pods:
        if pod.by_itself and pod.ended is None and pod.deleted is not None:
            until = min(time.time(), _billed_until(pod, pod.price_per_hour, billed))
            _replace(record, dataclasses.replace(pod, deleted=max(pod.deleted, until)))


def _billed_until(pod: PaidPod, price: float | None, billed: Callable[[str], float | None]) -> float:
    return pod.accepted + 3600 * (billed(pod.pod_id) or 0.0) / price if price else 0.0


def note_alive(record: RunRecord, cloud: Cloud, now: float) -> None:
    """Note which pods that should be gone, by themselves or with their lease, are there: these are paid for until now."""
    end = parse_time(record.pod.end)
    over = end is not None and now > end.timestamp()
    alive = there(cloud, [pod.pod_id for pod in record.pods if pod.ended is None and (pod.by_itself or over)])
    for pod in record.pods:
        if pod.pod_id in alive:
            _replace(record, dataclasses.replace(pod, seen=now))


def note_ended(record: RunRecord, proof: Proof, lease_end: str | None, billed: Callable[[str], float | None] = lambda _: None) -> None:
    """Note the proven ends. The wait for the proof is not billed: it is the pod's last sign of life that counts.

    ``billed`` tells the dollars on the cloud's bill for a pod: asked for one that had ended before anybody looked.
    """
    latest = parse_time(lease_end)
    limit = latest.timestamp() if latest else None
    for pod in record.pods:
        gone = next((gone for gone in proof.ended if gone.id == pod.pod_id), None)
        if gone is None or pod.ended is not None:
            continue
        ends = [gone.at]
        if gone.lived is not None:
            # Counted from the accept: the cloud's clock may be another than ours.
            ends.append(pod.accepted + gone.lived)
        elif not gone.here:
            # It had gone before anybody looked: by its own hand or the engine's, or with its lease at the latest.
            ends += [moment for moment in (pod.deleted, limit) if moment is not None and moment >= (pod.seen or 0.0)]
        price = pod.price_per_hour if pod.price_per_hour is not None else gone.price_per_hour
        end = max(pod.accepted, min(ends))
        if (pod.by_itself or end == limit) and not (pod.seen or gone.here) and gone.lived is None:
            end = max(end, min(gone.at, _billed_until(pod, price, billed)))
        _replace(record, dataclasses.replace(pod, price_per_hour=price, ended=end))


def unproved_pods(record: RunRecord) -> list[KnownPod]:
    """Return the pods of a run whose end is not proved."""
    end = parse_time(record.pod.end)
    by_id = {pod.pod_id: KnownPod(pod.pod_id, pod.price_per_hour, end) for pod in record.pods if pod.ended is None}
    pod_id = record.pod.pod_id
    if pod_id and not any(pod.pod_id == pod_id for pod in record.pods):
        by_id.setdefault(pod_id, KnownPod(pod_id, record.pod.price_per_hour, end))
    return list(by_id.values())


class Deletions:
    """An engine's events on their way to a person; keeps when the last pod was deleted."""

    def __init__(self, forward: OnEvent) -> None:
        self.forward = forward
        self.at: float | None = None

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if event.get("type") == POD and event.get("status") == "done" and str(event.get("op")).startswith("delete"):
            self.at = time.time()
        self.forward(event)


def cost(record: RunRecord, now: float) -> float:
    """Return the dollars of all pods of a run so far."""
    return sum(pod.cost(paid_until(record, now), record.disks_per_hour) for pod in record.pods)


def paid_until(record: RunRecord, now: float) -> float:
    """Return until when what nobody has seen end counts: the end of its lease, or now where it goes on until somebody ends it."""
    end = parse_time(record.pod.end)
    return now if end is None or _only_from_outside(record) else min(now, end.timestamp())


def _only_from_outside(record: RunRecord) -> bool:
    row = clouds.entry(record.cloud)
    return record.pod.ends_itself is False or (row is not None and not row.self_terminate and not row.deadline)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodCost:
    """A pod as a summary tells it. Money is in dollars, moments are UTC text."""

    pod_id: str
    gpu: str | None
    gpu_count: int
    region: str | None
    offer: str | None
    price_per_hour: float | None
    accepted_at: str | None
    ended_at: str | None
    cost: float
    billed: float | None = None
    """Dollars on the cloud's own bill; None where it has sent none yet."""


def costs(record: RunRecord, now: float) -> tuple[PodCost, ...]:
    """Return the pods of a run as a summary tells them; what they cost makes up ``cost``."""
    until = paid_until(record, now)
    return tuple(
        PodCost(
            pod_id=pod.pod_id, gpu=pod.gpu, gpu_count=pod.gpu_count, region=pod.region, offer=pod.offer,
            price_per_hour=pod.price_per_hour, accepted_at=format_time(pod.accepted), ended_at=format_time(pod.ended),
            cost=round(pod.cost(until, record.disks_per_hour), 6), billed=pod.billed,
        )
        for pod in record.pods
    )  # fmt: skip


def _replace(record: RunRecord, pod: PaidPod) -> None:
    record.pods = [pod if old.pod_id == pod.pod_id else old for old in record.pods]


def _accepted(record: RunRecord, moment: datetime | None) -> float:
    # The cloud's clock may be wrong; the pod was rented after the run was prepared, and before now.
    return record.created if moment is None else min(time.time(), max(record.created, moment.timestamp()))
