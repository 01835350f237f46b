"""What costs money in an account: the reaper, the end of one pod, the audit. What is shown is whole on a screen of any width."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainyard.clock import format_time
from trainyard.clouds import open_cloud
from trainyard.clouds.absence import KnownPod, Proof, prove
from trainyard.clouds.listing import complete_list
from trainyard.clouds.protocol import Account, Cloud, CostItem
from trainyard.config import stack_names
from trainyard.errors import CloudError, StillThere, TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.estimate import HOURS_A_MONTH
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.environment import bucket_in
from trainyard.runs.records.notes import note_end, note_proof
from trainyard.runs.verbs import leaks, reap
from trainyard.runs.verbs.anchors import anchoring
from trainyard.runs.verbs.latebills import fill_in
from trainyard.runs.verbs.sharing import tell_end
from trainyard.runs.verbs.stalekeys import remove_stale
from trainyard.settings import reader
from trainyard.stacks import facade

if TYPE_CHECKING:
    from trainyard.storage.client import StoreSettings
    from trainyard.storage.objects import OpenUpload


def reap_stacks(
    context: CommandContext, name: str | None, *, dry_run: bool, as_json: bool, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Reap one stack's cloud, or every cloud the settings name; return 0, 6 when a pod could not be ended or is charged unseen.

    A cloud that does not answer is told, keeps none of the others from it and gives its exit code when all were asked.
    """
    fill_in(context)
    by_stack: dict[str, Sequence[reap.Sighting]] = {}
    unanswered, unseen = 0, False
    for cloud in accounts(context, name):
        try:
            by_stack[cloud.name] = reap.reap(cloud, dry_run=dry_run)
        except CloudError as error:
            context.ui.fail(f"{cloud.name}: which pods there are is not known: {error}")
            unanswered = unanswered or error.exit_code
        else:
            _write_down(context, cloud.name, by_stack[cloud.name])
            note_proof(context, Proof(ended=tuple(sighting.gone for sighting in by_stack[cloud.name] if sighting.gone)))
            remove_stale(context, cloud, dry_run=dry_run, quiet=as_json)
            stacks = [name] if name is not None else leaks.stacks_of(context, cloud.name)
            leaks.pods_found(context, stacks, cloud.name, by_stack[cloud.name])
            if not by_stack[cloud.name] and _charged_unseen(context, cloud, sleep):
                leaks.charge_unseen(context, stacks, cloud.name)
                unseen = True
    reaped = any(sighting.ended is not None for pods in by_stack.values() for sighting in pods)
    with anchoring(context) if reaped else contextlib.nullcontext():
        _say_reaped(context, by_stack, as_json=as_json)
    if unseen or any(sighting.ended is False for pods in by_stack.values() for sighting in pods):
        return StillThere.exit_code
    return unanswered


def _write_down(context: CommandContext, cloud_name: str, pods: Sequence[reap.Sighting]) -> None:
    for sighting in pods:
        if sighting.ended is not None:
            record_act(context, "reap", sighting.pod.id, cloud=cloud_name, proved_gone=sighting.ended)


def _say_reaped(context: CommandContext, by_stack: Mapping[str, Sequence[reap.Sighting]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({cloud_name: reap.rows(pods) for cloud_name, pods in by_stack.items()}, indent=1))
        return
    for cloud_name, pods in by_stack.items():
        context.ui.say("\n".join(_reap_lines(cloud_name, pods)))
        left = [s.pod.price_per_hour for s in pods if s.ended is not True and s.pod.status != "exited"]
        context.ui.say(f"{cloud_name}: {len(pods)} pods listed, ${_sum(left):.2f}/h after this{_and_unknown(left)}")


def end_pod(context: CommandContext, name: str, reference: str) -> int:
    """End one pod of ours now, whatever its lease says, and prove it gone; raises StillThere when it is not."""
    from trainyard.runs.verbs.adopt import find_pod

    cloud = context.cloud(name)
    pod = find_pod(cloud, reference)
    record_act(context, "end", pod.id, stack=name)
    # Before the request: who follows its run may see the pod gone at once.
    is_known = note_end(context, pod.id) or tell_end(context, pod.id)
    with anchoring(context):
        proof = prove(cloud, [KnownPod(pod.id, pod.price_per_hour, pod.end)])
    note_proof(context, proof)
    proof.require(f"Again: invoke end {pod.id} --stack {name}")
    context.ui.say(f"pod {pod.id} is gone: {cloud.name} has taken the request to end it, denies it and does not list it any more")
    if not is_known:
        context.ui.warn(
            "whoever follows a run on it elsewhere was not told, takes it for lost and, with the setting `resume`, rents another pod.\n"
            f"Is there one? invoke audit --stack {name}. The run is ended for good where it was started: invoke cancel RUN"
        )
    return 0


def audit(context: CommandContext, name: str, *, as_json: bool) -> int:
    """Show what of the account costs money now, and what lies in the bucket unseen."""
    cloud = context.cloud(name)
    settings = reader.partly(context.places.root, name, "volume", "bucket")
    named = (settings.volume, settings.bucket)
    costs = complete_list(cloud, cloud.costs, lambda item: (item.kind, item.id))
    items = [replace(item, ours=item.ours or (item.kind == "volume" and item.id in named)) for item in costs]
    uploads = _uploads(context, name)
    if as_json:
        rows: list[dict[str, object]] = [
            {"kind": i.kind, "id": i.id, "name": i.name, "per_hour": i.per_hour, "ours": i.ours} for i in items
        ]  # fmt: skip
        rows += [
            {"kind": "open upload", "id": u.upload_id, "name": u.key, "bytes": u.bytes, "begun": u.begun, "at_work": at_work}
            for u, at_work in uploads
        ]
        print(json.dumps(rows, indent=1))
        return 0
    context.ui.say("\n".join([*_cost_lines(cloud.name, items), *_upload_lines(uploads)]))
    if _say_account(context, cloud, _sum(item.per_hour for item in items)):
        leaks.charge_unseen(context, [name], cloud.name)
    return 0


def _cost_lines(name: str, items: Sequence[CostItem]) -> list[str]:
    lines = [f"what costs money now: {name}" if items else f"{name} lists nothing that costs money"]
    for item in items:
        name_text = "" if item.name in (item.id, f"{item.id} (disk)") else f"  {item.name}"
        month = "" if item.per_hour is None else f"${item.per_hour * HOURS_A_MONTH:,.2f}/month"
        price = "price unknown" if item.per_hour is None else f"${item.per_hour:.4f}/h"
        lines.append(f"{price} {month:>14}  {'ours' if item.ours else 'foreign'}  {item.kind} {item.id}{name_text}")
    prices = [item.per_hour for item in items]
    return [*lines, f"in all ${_sum(prices):.4f}/h, ${_sum(prices) * HOURS_A_MONTH:,.2f} a month{_and_unknown(prices)}"]


def _sum(prices: Iterable[float | None]) -> float:
    return sum(price or 0.0 for price in prices)


def _and_unknown(prices: Sequence[float | None]) -> str:
    unknown = sum(price is None for price in prices)
    return f", and {unknown} whose price is not told" if unknown else ""


_WHOSE = {True: " of a run that is at work", False: " of a run that is over", None: ""}


def _upload_lines(uploads: Sequence[tuple[OpenUpload, bool | None]]) -> list[str]:
    return [
        f"open upload{_WHOSE[at_work]}, {one.bytes:,} bytes that no listing shows, begun {format_time(one.begun)}: {one.key}"
        for one, at_work in uploads
    ]


def _uploads(context: CommandContext, name: str) -> list[tuple[OpenUpload, bool | None]]:
    """Return what was begun in the environment's bucket and neither completed nor dropped; what cannot be asked is said.

    With each, whether the run that it is of may still be at work, None for what is no run's.
    """
    from trainyard.runs.records.stores import store_of
    from trainyard.storage.objects import open_uploads

    try:
        store = store_of(context, bucket_in(facade.outputs(context.stack(name))))
        uploads = open_uploads(store) if store else []
        living = _at_work(context, store, [one.key for one in uploads]) if store else {}
        return [(one, living.get(one.key)) for one in uploads]
    except TrainyardError as error:
        context.ui.warn(f"the bucket of '{name}' does not tell which uploads are open: {error}")
        return []


def _at_work(context: CommandContext, store: StoreSettings, keys: Sequence[str]) -> dict[str, bool]:
    """Return of those keys of a bucket that are a run's whether it may be at work: by the records here, else by the bucket."""
    from trainyard.runs.verbs.atwork import at_work
    from trainyard.runs.verbs.gc import alive
    from trainyard.storage.inventory import split_key

    of = {key: parts[1] for key in keys if (parts := split_key(key))}
    here = alive(context)
    living = {
        attempt: attempt in here or (not (context.places.runs / str(attempt)).is_dir() and at_work(context, store, attempt) is not None)
        for attempt in set(of.values())
    }
    return {key: living[attempt] for key, attempt in of.items()}


def _say_account(context: CommandContext, cloud: Cloud, listed: float) -> bool:
    """Say what the account was billed, and tell whether it is charged for more than is listed."""
    statement = _account(context, cloud)
    if statement is None:
        return False
    lasts = f", which lasts {statement.balance / statement.per_hour:.0f} h" if statement.per_hour else ""
    billed = "" if statement.billed is None else f"billed for pods in the last 30 days ${statement.billed:.2f}; "
    context.ui.say(f"{billed}balance ${statement.balance:.2f}{lasts}")
    if _more(statement, listed):
        context.ui.warn(_charged(cloud, statement))
    return _more(statement, listed)


def _account(context: CommandContext, cloud: Cloud) -> Account | None:
    try:
        return cloud.account()
    except CloudError as error:
        context.ui.warn(f"the cloud does not tell the account's balance and bill: {error.message}")
        return None


def _more(statement: Account, listed: float) -> bool:
    """Tell whether the account is charged for more than is listed: a second witness, which a list that leaves pods out does not change."""
    return statement.per_hour > 1.1 * listed + 0.01


def _charged(cloud: Cloud, statement: Account) -> str:
    return f"{cloud.name} charges ${statement.per_hour:.4f}/h now, which is more than it lists: see its own console"


def _charged_unseen(context: CommandContext, cloud: Cloud, sleep: Callable[[float], None]) -> bool:
    """Tell, and say, that an account whose list shows no pod is charged for more than all that is listed."""
    if _unseen(context, cloud, sleep) is None:
        return False
    sleep(cloud.capabilities.settle)  # a bill may lag behind a pod that has just ended, a list behind one just made
    unseen = _unseen(context, cloud, sleep)
    if unseen is None:
        return False
    context.ui.fail(f"{_charged(cloud, unseen)}. No pod is on its list, so whether one runs is not known")
    return True


def _unseen(context: CommandContext, cloud: Cloud, sleep: Callable[[float], None]) -> Account | None:
    statement = _account(context, cloud)
    if statement is None or not _more(statement, 0.0):
        return None
    try:
        costs = complete_list(cloud, cloud.costs, lambda item: (item.kind, item.id), sleep=sleep)
    except CloudError as error:
        context.ui.warn(f"what the account pays for is not known: {error.message}")
        return None
    return statement if _more(statement, _sum(item.per_hour for item in costs)) else None


def accounts(context: CommandContext, name: str | None) -> list[Cloud]:
    """Return one stack's cloud, or every cloud that the stacks' settings name and that can be opened; the others are said."""
    if name is not None:
        return [context.cloud(name)]
    opened: dict[str, Cloud] = {}
    for stack in stack_names(context.places.root):
        try:
            cloud = reader.cloud_of(context.places.root, stack)
            opened.setdefault(cloud, open_cloud(cloud, context.env, context.places))
        except UserError as error:
            context.ui.say(f"{stack}: left out: {error.message}")
    return list(opened.values())


def _reap_lines(name: str, sightings: Sequence[reap.Sighting]) -> list[str]:
    """Return what a screen of any width shows whole: an id stands alone on its line, to be typed or copied."""
    lines = [f"pods of {name}:" if sightings else f"{name} lists no pods"]
    for row in reap.rows(sightings):
        ending = {None: "", True: ": ended, proved", False: ": STILL THERE"}[row["ended"]]
        price = "price unknown" if row["price_per_hour"] is None else f"${row['price_per_hour']:.2f}/h"
        status = "" if row["ended"] else row["status"]  # what it was before
        lines.append(row["id"] if row["name"] == row["id"] else f"{row['id']}  {row['name']}")
        lines.append("    " + ", ".join(filter(None, (f"{row['verdict']}{ending}", price, status, row["end"] and f"ends {row['end']}"))))
        lines += [f"    {row['problem']}"] if row["problem"] else []
    return lines
