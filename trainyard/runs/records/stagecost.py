"""What each stage of a run has cost, so that the stages make up the whole, and what of it was not training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainyard.runs.records.pods import paid_until
from trainyard.runs.records.progress import duration
from trainyard.runs.records.record import Phase, RunRecord

TRAIN, UP, IDLE = "train", "up", "idle"
_ON_POD = ("start", TRAIN, "commit", "look", "destroy")
"""Stages in their order, each on a pod that is paid for."""
_CURRENT: dict[Phase, str] = {"prepared": UP, "up": "start", "started": TRAIN, "trained": "commit", "committed": "destroy"}
"""What a run is at that has come so far: a stage is measured when it is over."""


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage: seconds of it that were paid for, dollars. ``idle``: the pod was there and nobody drove the run."""

    name: str
    seconds: float
    cost: float


def by_stage(record: RunRecord, total: float, now: float) -> tuple[StageCost, ...]:
    """Return the stages of a run that took time, in order; their dollars make up the ``total`` that it has cost until ``now``.

    A training's own clock counts, also while no controller lived. Pods that did not boot belong to ``up``; waiting for the proof
    of an end is not paid for.
    """
    left, price = _paid(record, now)
    seconds: dict[str, float] = {}
    for name in _ON_POD:
        took = record.stages.get(name, 0.0) if name != TRAIN or record.job_seconds is None else record.job_seconds
        seconds[name] = min(took, left)
        left -= seconds[name]
    seconds[UP] = min(record.stages.get(UP, 0.0), left)
    rest = left - seconds[UP]
    seconds[IDLE] = rest if record.reached("ended") else 0.0
    if not record.reached("ended"):
        seconds[_CURRENT[record.phase]] += rest
    dollars = {name: price * took / 3600 for name, took in seconds.items()}
    dollars[UP] += max(0.0, total - sum(dollars.values()))
    order = (UP, *_ON_POD, IDLE)
    return tuple(
        StageCost(name, round(seconds[name], 3), round(dollars[name], 6))
        for name in order
        if seconds[name] >= 0.001 or dollars[name] >= 1e-6
    )


def lines(stages: Sequence[StageCost]) -> list[str]:
    """Return the lines with which a summary ends; none for a run that had no pod."""
    if not stages:
        return []
    paid = any(stage.cost >= 0.005 for stage in stages)
    parts = [f"{stage.name} " + (f"${stage.cost:.2f}" if paid else duration(stage.seconds)) for stage in stages]
    whole, dollars = sum(stage.seconds for stage in stages), sum(stage.cost for stage in stages)
    other = [stage for stage in stages if stage.name != TRAIN]
    aside, lost = sum(stage.seconds for stage in other), sum(stage.cost for stage in other)
    money = f", ${lost:.2f} of ${dollars:.2f}" if paid else ""
    share = lost / dollars if paid else aside / whole if whole else 0.0
    return [
        f"{'cost' if paid else 'time'} by stage: {', '.join(parts)}",
        f"not training: {duration(aside)} of {duration(whole)}{money} ({share:.0%})",
    ]


def as_costs(stages: Sequence[StageCost]) -> Mapping[str, float]:
    """Return dollars by stage."""
    return {stage.name: stage.cost for stage in stages}


def _paid(record: RunRecord, now: float) -> tuple[float, float]:
    """Return for how many seconds the pods were paid that the run was on, and their price: those that were given up trained nothing."""
    until = record.ended or paid_until(record, now)
    if record.pods:
        last = next((pod for pod in record.pods if pod.pod_id == record.pod.pod_id), record.pods[-1])
        group = {last.pod_id, *(peer.pod_id for peer in record.peers)}
        price = sum(pod.price_per_hour + record.disks_per_hour for pod in record.pods if pod.pod_id in group and pod.price_per_hour)
        return max(0.0, (last.ended or last.deleted or until) - last.accepted), price
    return max(0.0, until - record.pod.created_epoch) if record.pod.created_epoch else 0.0, record.per_hour
