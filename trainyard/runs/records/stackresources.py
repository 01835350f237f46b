"""Leases, pods and addresses of a stack, as its state tells them.

Read leniently: what a crash or another hand has left in a state must not keep a pod from being named and ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from trainyard.clock import parse_time
from trainyard.stacks.model import Event

LEASE = "trainyard:index:Lease"
POD = "trainyard:index:Pod"
ENDPOINT = "trainyard:index:Endpoint"


@dataclass(frozen=True, slots=True)
class StackLease:
    """A lease in a state; what its create has not told is None."""

    lease_id: str | None
    fence_id: str | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class StackPod:
    """A pod in a state; what its create has not told is None. Money is in dollars."""

    id: str | None
    name: str | None
    price_per_hour: float | None
    created: datetime | None
    gpu: str | None
    gpu_count: int
    region: str | None
    offer: str | None
    half: bool
    """It exists, but its create did not come to a clear end."""
    deleted: bool
    """It was deleted to make room for another one, which was not made: the state keeps it until then."""


def leases_in(resources: Iterable[Event], *, replaced: bool = False) -> list[StackLease]:
    """Return the leases of a state; with ``replaced`` also those that only wait for their delete."""
    return [
        StackLease(_text(outputs, "lease_id"), _text(outputs, "fence_id"), parse_time(_text(outputs, "end")))
        for outputs in map(_outputs, _of_kind(resources, LEASE, replaced))
    ]


def pods_in(resources: Iterable[Event], *, replaced: bool = False) -> list[StackPod]:
    """Return the pods of a state; with ``replaced`` also those that only wait for their delete."""
    return [_pod(resource) for resource in _of_kind(resources, POD, replaced)]


def pods_with_address(resources: Iterable[Event]) -> set[str]:
    """Return the ids of the pods whose SSH server has answered."""
    return {str(resource["id"]) for resource in _of_kind(resources, ENDPOINT, False) if resource.get("id")}


def _pod(resource: Event) -> StackPod:
    outputs = _outputs(resource)
    return StackPod(
        id=_text(resource, "id"),
        name=_text(outputs, "name"),
        price_per_hour=_number(outputs, "price_per_hour"),
        created=parse_time(_text(outputs, "created_at")),
        gpu=_text(outputs, "gpu"),
        gpu_count=int(_number(outputs, "gpu_count") or 0),
        region=_text(outputs, "region"),
        offer=_text(outputs, "offer"),
        half=bool(resource.get("initErrors")),
        deleted=bool(resource.get("pendingReplacement")),
    )


def _of_kind(resources: Iterable[Event], kind: str, replaced: bool) -> Iterator[Event]:
    return (resource for resource in resources if resource.get("type") == kind and (replaced or not resource.get("delete")))


def _outputs(resource: Event) -> Mapping[str, object]:
    outputs = resource.get("outputs")
    return outputs if isinstance(outputs, dict) else {}


def _text(outputs: Mapping[str, object], key: str) -> str | None:
    value = outputs.get(key)
    return value if isinstance(value, str) and value else None


def _number(outputs: Mapping[str, object], key: str) -> float | None:
    value = outputs.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
