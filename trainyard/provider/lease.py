"""Lease: the right of a pod to exist, and the fence whose deletion proves that nothing is left.

Two kinds. An environment's own lease has no deadline and is a *fence*: its id is carried by every pod of the
environment and of its runs. A lease with ``hours`` belongs to one pod and names the fence it lies under.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trainyard.clouds import absence
from trainyard.clouds.marker import LONGEST_LEASE, format_time, is_id, new_id, parse_time
from trainyard.errors import CloudError, RefusedError, TrainyardError
from trainyard.leases import fence, intents, sweep
from trainyard.provider import model
from trainyard.provider.call import Call
from trainyard.provider.handler import CheckFailed, ReadResult, ResourceDiff, ResourceHandler
from trainyard.provider.model import CheckFailure, prop
from trainyard.provider.values import Properties, UnknownValue


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseInputs:
    """Inputs of a lease."""

    cloud: str = prop("Cloud that the pods of this lease live on.", replaces=True)
    hours: float | None = prop("Hours until training is stopped. None: a fence, without deadline.", None)
    rescue_minutes: float = prop("Minutes between stop and end, for the last checkpoint and the result.", 30.0)
    budget: float | None = prop("Dollars after which training is stopped.", None)
    fence_id: str | None = prop("Id of the environment's lease that this one lies under. None: this is a fence.", None, replaces=True)
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
    hours, rescue, budget, fence_id = values["hours"], values["rescue_minutes"], values["budget"], values["fence_id"]
    if isinstance(hours, float) and hours <= 0:
        failures.append(CheckFailure("hours", "'hours' must be more than 0"))
    if isinstance(rescue, float) and rescue < 0:
        failures.append(CheckFailure("rescue_minutes", "'rescue_minutes' must not be negative"))
    if isinstance(hours, float) and isinstance(rescue, float) and hours * 60 + rescue > LONGEST_LEASE.total_seconds() / 60:
        failures.append(CheckFailure("hours", f"the longest lease is {LONGEST_LEASE.days} days"))
    if isinstance(budget, float) and budget <= 0:
        failures.append(CheckFailure("budget", "'budget' must be more than 0"))
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
            hint = "End this one (invoke cancel RUN --now) and start it anew."
            raise RefusedError(f"lease {outputs.get('lease_id')} {over}", hint=hint)
        changes["hours" if before["hours"] is not None else "cloud"] = "update-replace"
    replaced = any(kind.endswith("replace") for kind in changes.values())
    if not replaced and {"hours", "rescue_minutes"} & set(changes):
        _refuse_unless_markers_change(call, outputs, before, after)
    return ResourceDiff(changes, delete_first=replaced)


def create(call: Call, inputs: Properties) -> tuple[str, Properties]:
    """Make the id, turn hours into stop and end, and make the folder of intents."""
    given = model.parse(LeaseInputs, inputs)
    lease_id = new_id()
    intents.make_folder(call.world.places.intents, lease_id)
    start = _clock(call, given)
    return lease_id, _outputs(given, lease_id, start, closed=False)


def read(call: Call, id: str, outputs: Properties, inputs: Properties) -> ReadResult:
    """Say what is on record: a lease lives in state, not in a cloud."""
    if not id:
        # Create asks no cloud for anything that costs: a lease that was not recorded can be made again.
        return ReadResult("", {}, inputs)
    if not outputs:
        raise RefusedError("a lease cannot be imported: it is not kept by a cloud")
    given = model.parse(LeaseInputs, inputs)
    closed = fence.is_closed(call.world.places, id) or (
        given.fence_id is None and fence.is_closed_in_bucket(call.world, id, given.store, given.bucket)
    )
    return ReadResult(id, {**outputs, "closed": closed}, inputs)


def update(call: Call, id: str, outputs: Properties, olds: Properties, news: Properties) -> Properties:
    """Move stop and end with changed hours; they count from the lease's start."""
    given = model.parse(LeaseInputs, news)
    start = parse_time(str(outputs.get("start")))
    if start is None:
        raise CloudError(f"lease {id} has no readable start in state")
    moved = _outputs(given, id, start, closed=bool(outputs.get("closed")))
    end = parse_time(str(moved["end"]))
    if end is not None and end.timestamp() <= call.world.time():
        raise RefusedError(
            f"with hours: {given.hours} the lease would have ended at {moved['end']} already", hint="Use destroy to end the pod now."
        )
    return moved


def delete(call: Call, id: str, outputs: Properties, inputs: Properties) -> None:
    """Close, wait for living creators, end what intents name, sweep the cloud, trust only a proven absence."""
    given = model.parse(LeaseInputs, inputs)
    world, root, is_fence = call.world, call.world.places.intents, given.fence_id is None
    fence.close_here(world, id)
    unclosed = _close_in_bucket(call, id, given) if is_fence else None
    cloud = world.open_cloud(given.cloud)
    known = sweep.remember(root, id, cloud.capabilities, is_fence=is_fence, time=world.time, sleep=world.sleep, say=world.info)
    proof = absence.prove(
        cloud, [absence.Known(pod_id) for pod_id in known.ids], lambda pod: pod.lease_id == id or (is_fence and pod.fence_id == id),
        trusted_from=known.trusted_from, time=world.time, sleep=world.sleep, allowed=world.allowed,
    )  # fmt: skip
    proof.require("Run destroy again; the lease's end and the reaper end it otherwise.")
    if ended := sum(gone.here for gone in proof.ended):
        world.info(f"ended {ended} pod{'s' if ended > 1 else ''} of {'environment' if is_fence else 'lease'} {id}")
    if unclosed is not None:
        raise unclosed
    intents.remove_folder(root, id)


def _close_in_bucket(call: Call, id: str, given: LeaseInputs) -> TrainyardError | None:
    """A store that is down must not keep pods alive: sweep first, complain afterwards."""
    try:
        fence.close_in_bucket(call.world, id, given.store, given.bucket)
    except TrainyardError as error:
        call.world.warn(f"the bucket cannot be told that environment {id} is closed: {error}")
        return error
    return None


def _over(call: Call, outputs: Properties) -> str | None:
    """Return why the lease cannot hold a pod any more, None while it can."""
    lease_id, end = str(outputs.get("lease_id")), parse_time(str(outputs.get("end")))
    if outputs.get("closed") or fence.is_closed(call.world.places, lease_id):
        return "was closed by a destroy"
    if end is not None and end.timestamp() <= call.world.time():
        return f"ended at {outputs.get('end')}"
    return None


def _refuse_unless_markers_change(call: Call, outputs: Properties, before: Properties, after: Properties) -> None:
    if before["hours"] is None or isinstance(after["hours"], UnknownValue):
        return
    if not call.world.open_cloud(str(after["cloud"])).capabilities.change_markers:
        raise RefusedError(
            f"{after['cloud']} cannot change the deadline of a running pod: hours stay {before['hours']} until {outputs.get('end')}",
            hint="Nothing was changed. Set hours back; a new pod can have another deadline.",
        )


def _clock(call: Call, given: LeaseInputs) -> datetime:
    """The cloud's clock decides when a lease is over, so it also says when one begins."""
    if given.hours is None:
        return datetime.fromtimestamp(call.world.time(), UTC)
    return call.world.open_cloud(given.cloud).now()


def _outputs(given: LeaseInputs, lease_id: str, start: datetime, *, closed: bool) -> Properties:
    stop = None if given.hours is None else start + timedelta(hours=given.hours)
    end = None if stop is None else stop + timedelta(minutes=given.rescue_minutes)
    return {
        "lease_id": lease_id,
        "fence_id": given.fence_id or lease_id,
        "start": format_time(start),
        "stop": format_time(stop) if stop else None,
        "end": format_time(end) if end else None,
        "budget": given.budget,
        "closed": closed,
    }


LEASE = ResourceHandler(
    token="trainyard:index:Lease",
    doc="The right of pods to exist: made before them, deleted after them. Its deletion proves that none is left.",
    inputs=LeaseInputs,
    outputs=LeaseOutputs,
    check=check,
    diff=diff,
    create=create,
    read=read,
    update=update,
    delete=delete,
)
