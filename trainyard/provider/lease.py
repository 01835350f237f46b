"""Lease: the right of a pod to exist, and the fence whose deletion proves that nothing is left.

Two kinds. An environment's own lease has no deadline and is a *fence*: its id is carried by every pod of the
environment and of its runs. A lease with ``hours`` belongs to one pod and names the fence it lies under.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.clock import format_time, parse_time
from trainyard.clouds.marker import LONGEST_LEASE, is_id
from trainyard.errors import CloudError, RefusedError
from trainyard.leases import ending, fence, terms
from trainyard.leases.terms import LeaseTerms
from trainyard.provider import model
from trainyard.provider.call import Call
from trainyard.provider.handler import CheckFailed, ReadResult, ResourceDiff, ResourceHandler
from trainyard.provider.model import CheckFailure, prop
from trainyard.provider.values import Properties, UnknownValue
from trainyard.settings.table import DEFAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseInputs:
    """Inputs of a lease."""

    cloud: str = prop("Cloud that the pods of this lease live on.", replaces=True)
    hours: float | None = prop("Hours until training is stopped. None: a fence, without deadline.", None)
    rescue_minutes: float = prop("Minutes between stop and end, for the last checkpoint and the result.", DEFAULTS.rescue_minutes)
    budget: float | None = prop("Dollars after which training is stopped.", None)
    fence_id: str | None = prop("Id of the environment's lease that this one lies under. None: this is a fence.", None, replaces=True)
    wait_hours: float | None = prop("Hours that the pod may wait for its machine, before those of the lease begin.", None, ignored=True)
    renew: bool = prop("Replace the lease (and with it the pod) when it has expired; else an expired lease is an error.", False)
    store: str | None = prop("Kind of the store that holds the bucket.", None)
    bucket: str | None = prop("Bucket that tells other machines when the fence is closed.", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOutputs:
    """Outputs of a lease."""

    lease_id: str = prop("Random id of the lease, carried by its pods.")
    fence_id: str = prop("Id of the fence: of the environment's lease, or this one's own.")
    start: str = prop("When the lease began (UTC).")
    stop: str | None = prop("When training is stopped (UTC).", None)
    end: str | None = prop("When the pod is gone, whatever it holds (UTC).", None)
    budget: float | None = prop("Dollars after which training is stopped.", None)
    closed: bool = prop("A destroy has begun to end what lies under it.", False)


def check(call: Call, olds: Properties | None, news: Properties) -> Properties:
    """Refuse what would make the lease worthless."""
    if call.world.env.get("PULUMI_SKIP_CHECKPOINTS", "").lower() in ("1", "true", "t", "yes"):
        raise RefusedError(
            "PULUMI_SKIP_CHECKPOINTS is set: after a crash nothing would say which pods exist",
            hint="Unset it; without a record of each step nothing is rented here.",
        )
    values = model.normal(LeaseInputs, news)
    failures = []
    hours, rescue, fence_id = values["hours"], values["rescue_minutes"], values["fence_id"]
    if isinstance(hours, float) and isinstance(rescue, float) and hours * 60 + rescue > LONGEST_LEASE.total_seconds() / 60:
        failures.append(CheckFailure("hours", f"the longest lease is {LONGEST_LEASE.days} days"))
    if isinstance(fence_id, str) and not is_id(fence_id):
        failures.append(CheckFailure("fence_id", f"'{fence_id}' is no fence id"))
    if fence_id is not None and hours is None:
        failures.append(CheckFailure("hours", "a lease under a fence needs 'hours': no pod runs without a deadline"))
    if failures:
        raise CheckFailed(failures)
    return news


def diff(call: Call, outputs: Properties, olds: Properties, news: Properties, plain: ResourceDiff) -> ResourceDiff:
    """Replace a closed or expired lease; refuse a changed deadline where the pod's marker cannot follow."""
    changes = dict(plain.changes)
    before, after = model.normal(LeaseInputs, olds), model.normal(LeaseInputs, news)
    over = _over(call, outputs)
    if over and not any(kind.endswith("replace") for kind in changes.values()):
        if not after["renew"] and before["fence_id"] is not None:
            hint = "Nothing is rented under it any more: start the run anew (invoke train)."
            raise RefusedError(f"lease {outputs.get('lease_id')} {over}", hint=hint)
        changes["hours" if before["hours"] is not None else "cloud"] = "update-replace"
    replaced = any(kind.endswith("replace") for kind in changes.values())
    if not replaced and {"hours", "rescue_minutes"} & set(changes):
        _refuse_unless_markers_change(call, outputs, before, after)
    return ResourceDiff(changes, delete_first=replaced)


def create(call: Call, inputs: Properties) -> tuple[str, Properties]:
    """Make the id, turn hours into stop and end, and make the folder of intents."""
    typed = model.parse(LeaseInputs, inputs)
    lease = terms.begin(call.world, typed.cloud, typed.fence_id, typed.hours, typed.rescue_minutes, typed.wait_hours)
    return lease.lease_id, _outputs(lease, typed.budget, closed=False)


def read(call: Call, id: str, outputs: Properties, inputs: Properties) -> ReadResult:
    """Say what is on record: a lease lives in state, not in a cloud."""
    if not id:
        # Create asks no cloud for anything that costs: a lease that was not recorded can be made again.
        return ReadResult("", {}, inputs)
    if not outputs:
        raise RefusedError("a lease cannot be imported: it is not kept by a cloud")
    typed = model.parse(LeaseInputs, inputs)
    closed = fence.is_closed(call.world.places, id) or (
        typed.fence_id is None and fence.is_closed_in_bucket(call.world, id, typed.store, typed.bucket)
    )
    return ReadResult(id, {**outputs, "closed": closed}, inputs)


def update(call: Call, id: str, outputs: Properties, olds: Properties, news: Properties) -> Properties:
    """Move stop and end with changed hours; they count from the lease's start."""
    typed = model.parse(LeaseInputs, news)
    start = parse_time(str(outputs.get("start")))
    if start is None:
        raise CloudError(f"lease {id} has no readable start in state")
    moved = terms.terms(id, typed.fence_id, start, typed.hours, typed.rescue_minutes)
    if moved.end is not None and moved.end.timestamp() <= call.world.time():
        raise RefusedError(
            f"with hours: {typed.hours} the lease would have ended at {format_time(moved.end)} already",
            hint="Use destroy to end the pod now.",
        )
    return _outputs(moved, typed.budget, closed=bool(outputs.get("closed")))


def delete(call: Call, id: str, outputs: Properties, inputs: Properties) -> None:
    """Close, wait for living creators, end what intents name, sweep the cloud, trust only a proven absence."""
    typed = model.parse(LeaseInputs, inputs)
    ending.end_lease(call.world, typed.cloud, id, is_fence=typed.fence_id is None, store=typed.store, bucket=typed.bucket)


def _over(call: Call, outputs: Properties) -> str | None:
    """Return why the lease cannot hold a pod any more, None while it can."""
    lease_id, end = str(outputs.get("lease_id")), parse_time(str(outputs.get("end")))
    return "was closed by a destroy" if outputs.get("closed") else terms.over(call.world, lease_id, end)


def _refuse_unless_markers_change(call: Call, outputs: Properties, before: Properties, after: Properties) -> None:
    if before["hours"] is None or isinstance(after["hours"], UnknownValue):
        return
    if not call.world.open_cloud(str(after["cloud"])).capabilities.change_markers:
        raise RefusedError(
            f"{after['cloud']} cannot change the deadline of a running pod: hours stay {before['hours']} until {outputs.get('end')}",
            hint="Nothing was changed. Set hours back; a new pod can have another deadline.",
        )


def _outputs(lease: LeaseTerms, budget: float | None, *, closed: bool) -> Properties:
    return {
        "lease_id": lease.lease_id,
        "fence_id": lease.fence_id,
        "start": format_time(lease.start),
        "stop": format_time(lease.stop),
        "end": format_time(lease.end),
        "budget": budget,
        "closed": closed,
    }


LEASE = ResourceHandler(
    token="trainyard:index:Lease",
    doc="The right of pods to exist: made before them, deleted after them. Its deletion proves that none is left.",
    inputs=LeaseInputs,
    outputs=LeaseOutputs,
    kept=False,
    check=check,
    diff=diff,
    create=create,
    read=read,
    update=update,
    delete=delete,
)
