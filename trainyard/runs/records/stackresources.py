"""The resources of a stack, as its state tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.stacks.model import Event

LEASE = "trainyard:index:Lease"
POD = "trainyard:index:Pod"
ENDPOINT = "trainyard:index:Endpoint"


@dataclass(frozen=True, slots=True)
class StackResource:
    """One resource of a state; its outputs are empty where the create left none."""

    id: str | None
    outputs: Mapping[str, Any]
    half: bool
    """It exists, but its create did not come to a clear end."""


def resources_of(resources: Iterable[Event], kind: str, *, replaced: bool = False) -> list[StackResource]:
    """Return the resources of a kind; with ``replaced`` also those that only wait for their delete."""
    return [_made(resource) for resource in resources if resource.get("type") == kind and (replaced or not resource.get("delete"))]


def _made(resource: Event) -> StackResource:
    outputs = resource.get("outputs")
    return StackResource(
        str(resource["id"]) if resource.get("id") else None, outputs if isinstance(outputs, dict) else {}, bool(resource.get("initErrors"))
    )
