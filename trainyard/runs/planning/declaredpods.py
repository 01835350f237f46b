"""Pods that a stack's settings declare (``pods:``): estimated, held to the limits and on the ledger, as those of runs are.

Nobody follows such a pod, so the ledger counts its whole lease from the ``up`` on, and what it has really cost from
the proof of its end on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trainyard.clouds.absence import Proof
from trainyard.clouds.listing import there
from trainyard.clouds.marker import parse_name
from trainyard.errors import NoCapacity, TrainyardError
from trainyard.leases.intents import asked
from trainyard.ledger.rows import Reservation
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.estimate import estimate
from trainyard.runs.planning.limitnotices import tell_limits
from trainyard.runs.planning.limits import check_limits, limits_of, reserve_dollars
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.stackresources import StackPod, leases_in, pods_in
from trainyard.settings import reader
from trainyard.settings.table import StackSettings
from trainyard.settings.user import user_name
from trainyard.stacks import facade
from trainyard.stacks.model import Event, Stack

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger

_BEGUN, _RENTED, _SETTLED = "pods declared", "pods rented", "pods settled"


def reserve(context: CommandContext, stack: Stack, settings: StackSettings) -> None:
    """Say what the pods that an ``up`` will rent cost at most, and put it on the ledger.

    Raises RefusedError where a limit forbids it, NoCapacity where nothing fits; nothing was made by then.
    """
    count, resources = settings.pods, facade.readable_resources(stack)
    new = count - _standing(resources)
    if new <= 0:
        return
    ledger = context.ledger()
    entry = _open_entry(ledger, stack.name)
    try:
        expected = estimate(context.cloud(stack.name), settings, settings.hours)
    except NoCapacity as error:
        # The last of its kind may be gone because a killed up has it: the engine takes it over, and it is reserved already.
        if entry is None or _asked(context, resources) < count:
            raise
        context.ui.warn(f"{error}; what an up before this has asked for may be there, so it is looked for")
        return
    if entry is not None and new == count and ledger.events(entry, kind=_RENTED):
        ledger.add(entry, _SETTLED, stack=stack.name)  # their lease is over, or they are lost: it stays spent
        entry = None
    elif entry is not None and new == count:
        ledger.set_cost(entry, time.time(), 0.0)  # that up has come to nothing
    context.ui.say(f"estimate   {f'{new} pods, each ' if new > 1 else ''}{expected.text()}")
    begun = entry or RunId(user_name(context.env, settings.user), f"pods.{stack.name}", int(time.time() * 1000))
    limits = limits_of(settings, stack=stack.name, user=begun.user)
    for warning in check_limits(expected, limits, ledger, None, count=new):
        context.ui.warn(warning)
    reservation = Reservation(
        run=begun, added=new * expected.most, kind=None if entry else _BEGUN, data={"stack": stack.name}, spent=count * expected.most
    )
    reserve_dollars(ledger, limits, reservation, count=new)
    tell_limits(context, stack.name, begun)


def note_up(context: CommandContext, stack: Stack) -> None:
    """Note that the up has come to its end: what it has reserved is spent from here on."""
    ledger = context.ledger()
    entry = _open_entry(ledger, stack.name)
    if entry is not None:
        ledger.add(entry, _RENTED, stack=stack.name)


def outlived(context: CommandContext, stack: Stack, resources: Sequence[Event]) -> frozenset[str]:
    """Return which pods are there though their leases are over; asked before a destroy: they are paid for until that ends them."""
    over = {lease_id for lease_id, end in _ends(resources).items() if end <= datetime.now(UTC)}
    late = [str(pod.id) for pod in _pods(resources) if (name := parse_name(pod.name or "")) is not None and name.lease_id in over]
    with contextlib.suppress(TrainyardError):  # without its key nothing is ended, and that is told
        return there(context.cloud(stack.name), late) if late else frozenset()
    return frozenset()


def settle(context: CommandContext, stack: Stack, resources: Sequence[Event], proof: Proof, late: Collection[str]) -> None:
    """Put on the ledger what the pods have cost whose end a destroy has proved; what is not known counts as before.

    ``late``: those that had outlived their leases.
    """
    pods, ends = _pods(resources), _ends(resources)
    disks = _disks_per_hour(context, stack.name)
    costs = [_cost(pod, proof, ends if pod.id not in late else {}, disks) for pod in pods]
    if None in costs:
        return
    try:
        ledger = context.ledger()
        entry = _open_entry(ledger, stack.name)
        if entry is not None:
            spent = sum(cost for cost in costs if cost is not None)
            ledger.set_cost(entry, entry.attempt / 1000, spent)
            ledger.add(entry, _SETTLED, stack=stack.name, cost=spent)
    except (OSError, TrainyardError) as error:
        # The pods are gone, and that is what was asked.
        context.ui.warn(f"the ledger cannot be written: {error}")


def _disks_per_hour(context: CommandContext, stack: str) -> float:
    """Return what the disks of a stack's pods are billed beside their price; 0 where the settings do not tell any more."""
    try:
        settings = reader.partly(context.places.root, stack, "disk_gb", "gpu", "volume")
        return context.cloud(stack).disks_per_hour(settings.disk_gb, gpu=bool(settings.gpu), volume=bool(settings.volume))
    except (OSError, TrainyardError):
        return 0.0


def _cost(pod: StackPod, proof: Proof, ends: Mapping[str, datetime], disks_per_hour: float) -> float | None:
    until, parsed = proof.ended_at(pod.id or ""), parse_name(pod.name or "")
    if pod.created is None or pod.price_per_hour is None or until is None:
        return None
    end = ends.get(parsed.lease_id) if parsed else None
    until = min(until, end.timestamp()) if end else until
    return (pod.price_per_hour + disks_per_hour) * max(0.0, until - pod.created.timestamp()) / 3600


def _pods(resources: Sequence[Event]) -> list[StackPod]:
    return [pod for pod in pods_in(resources, replaced=True) if pod.id]


def _ends(resources: Sequence[Event]) -> dict[str, datetime]:
    return {lease.lease_id: lease.end for lease in leases_in(resources) if lease.lease_id and lease.end is not None}


def _standing(resources: Sequence[Event]) -> int:
    """Return how many pods of the state have a lease that is not over: those are not rented anew."""
    over = {lease_id for lease_id, end in _ends(resources).items() if end <= datetime.now(UTC)}
    names = (parse_name(pod.name or "") for pod in _pods(resources))
    return sum(1 for name in names if name is not None and name.lease_id not in over)


def _asked(context: CommandContext, resources: Sequence[Event]) -> int:
    """Return how many pods may be there under the leases of the state that are not over."""
    living = [lease_id for lease_id, end in _ends(resources).items() if end > datetime.now(UTC)]
    return sum(asked(context.places.intents, lease_id) for lease_id in living)


def _open_entry(ledger: Ledger, stack: str) -> RunId | None:
    """Return the entry of a stack's pods that no destroy has settled."""
    settled = {event.run for event in ledger.events(kind=_SETTLED)}
    open_runs = [event.run for event in ledger.events(kind=_BEGUN) if event.data.get("stack") == stack and event.run not in settled]
    return open_runs[-1] if open_runs else None
