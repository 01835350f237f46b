"""Operate an environment as a whole: up, preview, refresh, destroy; outputs, reaper, audit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.table import Column, Table

from trainyard import settings
from trainyard.clouds import open_cloud
from trainyard.clouds.absence import Known, prove
from trainyard.clouds.protocol import Cloud
from trainyard.errors import CloudError, RefusedError, StillThere, TrainyardError, UserError
from trainyard.runs import attach, reap
from trainyard.runs.context import Context
from trainyard.runs.destroy import destroy
from trainyard.runs.estimate import HOURS_A_MONTH
from trainyard.runs.record import RunFolder, all_folders
from trainyard.runs.upkeep import mark_up
from trainyard.stacks import facade
from trainyard.stacks.model import Event, Operation, Outcome

_SECRET_OUTPUTS = ("ssh_private_key", "host_key_seed")


def operate(context: Context, name: str, operation: Operation, *, yes: bool, as_json: bool) -> int:
    """Run one operation on an environment; raises EngineError or StillThere when it failed."""
    stack = context.stack(name)

    def on_event(event: Event) -> None:
        if as_json:
            print(json.dumps(event), flush=True)
        else:
            context.ui.engine_event(event)

    if operation == "destroy":
        _end_runs(context, name, yes=yes)
        outcome = destroy(context, stack, [folder.load() for folder in live_runs(context, name)], on_event)
    else:
        facade.settings_of(name, context.places)  # what is wrong in them is told before an engine starts
        outcome = facade.operate(stack, operation, on_event)
        if not outcome.ok:
            raise outcome.error(f"{operation} of stack '{name}' failed (engine {outcome.engine}): ")
        if operation == "up":
            mark_up(context.places, stack)
    _say_outcome(context, name, outcome)
    return 0


def shown_outputs(context: Context, name: str, *, show_secrets: bool) -> dict[str, Any]:
    """Return the outputs of a stack, secrets as ``[secret]`` unless asked for."""
    found = facade.outputs(context.stack(name))
    if not found:
        raise UserError(f"stack '{name}' has no outputs yet", hint=f"Run: invoke up --stack {name}")
    return found if show_secrets else {key: "[secret]" if key in _SECRET_OUTPUTS else value for key, value in found.items()}


def reap_stacks(context: Context, name: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Reap one stack's cloud, or every cloud the settings name; return 0, 6 when a pod could not be ended."""
    seen: dict[str, Sequence[reap.Sighting]] = {}
    for cloud in _clouds(context, name):
        seen[cloud.name] = reap.reap(cloud, dry_run=dry_run)
    if as_json:
        print(json.dumps({cloud: reap.rows(found) for cloud, found in seen.items()}, indent=1))
    else:
        for cloud_name, found in seen.items():
            context.ui.console.print(_reap_table(cloud_name, found))
            per_hour = sum(s.pod.price_per_hour or 0.0 for s in found if s.ended is not True and s.pod.status != "exited")
            context.ui.say(f"{cloud_name}: {len(found)} pods, ${per_hour:.2f}/h after this")
    failed = [s for found in seen.values() for s in found if s.ended is False]
    return StillThere.exit_code if failed else 0


def end_pod(context: Context, name: str, reference: str) -> int:
    """End one pod of ours now, whatever its lease says, and prove it gone; raises StillThere when it is not."""
    from trainyard.runs.adopt import find_pod

    cloud = context.cloud(name)
    pod = find_pod(cloud, reference)
    proof = prove(cloud, [Known(pod.id, pod.price_per_hour, pod.end)])
    proof.require(f"Again: invoke end {pod.id} --stack {name}")
    context.ui.say(f"pod {pod.id} is gone: {cloud.name} has taken the request to end it, denies it and does not list it any more")
    return 0


def audit(context: Context, name: str, *, as_json: bool) -> int:
    """Show what of the account costs money now."""
    cloud = context.cloud(name)
    settings = facade.settings_of(name, context.places)
    named = (settings.get("volume"), settings.get("bucket"))
    items = [replace(item, ours=item.ours or (item.kind == "volume" and item.id in named)) for item in cloud.costs()]
    if as_json:
        rows = [{"kind": i.kind, "id": i.id, "name": i.name, "per_hour": i.per_hour, "ours": i.ours} for i in items]
        print(json.dumps(rows, indent=1))
        return 0
    table = _table("kind", "id", "name", "whose", "$/h", "$/month", title=f"What costs money now: {cloud.name}")
    for item in items:
        whose = "ours" if item.ours else "foreign"
        table.add_row(item.kind, item.id, item.name, whose, f"{item.per_hour:.4f}", f"{item.per_hour * HOURS_A_MONTH:.2f}")
    total = sum(item.per_hour for item in items)
    context.ui.console.print(table)
    context.ui.say(f"in all ${total:.4f}/h, ${total * HOURS_A_MONTH:.2f} a month")
    _say_account(context, cloud)
    return 0


def _say_account(context: Context, cloud: Cloud) -> None:
    try:
        told = cloud.account()
    except CloudError as error:
        context.ui.warn(f"the cloud does not tell the account's balance and bill: {error.message}")
        return
    if told is not None:
        lasts = f", which lasts {told.balance / told.per_hour:.0f} h" if told.per_hour else ""
        context.ui.say(f"billed for pods in the last 30 days ${told.billed:.2f}; balance ${told.balance:.2f}{lasts}")


def live_runs(context: Context, name: str) -> list[RunFolder]:
    """Return the attempts of an environment that have not ended."""
    found = []
    for folder in all_folders(context.places.runs):
        try:
            record = folder.load()
        except UserError as error:
            # A damaged record must not keep a destroy from ending what lies under the environment's fence.
            context.ui.warn(error.message)
            continue
        if record.environment == name and not record.reached("ended"):
            found.append(folder)
    return found


def _end_runs(context: Context, name: str, *, yes: bool) -> None:
    live = live_runs(context, name)
    if not live:
        return
    for folder in live:
        record = folder.load()
        price = float(record.pod.get("price_per_hour") or 0)
        context.ui.say(f"live run   {record.id} ({record.phase}), ${price:.2f}/h; what it has not saved is lost")
    if not yes and not context.ui.agreed(f"End {len(live)} live run(s) of '{name}'? [y/N] "):
        raise RefusedError(
            f"stack '{name}' has live runs; nothing was destroyed", hint="Say --yes, or end them one by one: invoke cancel RUN"
        )
    for folder in live:
        try:
            attach.cancel(context, str(folder.load().id), now=True)
        except TrainyardError as error:
            # The environment's own Lease sweeps by fence id, so one stuck run must not stop the rest.
            context.ui.warn(f"{folder.load().id}: {error}")


def _clouds(context: Context, name: str | None) -> list[Cloud]:
    if name is not None:
        return [context.cloud(name)]
    opened: dict[str, Cloud] = {}
    for path in sorted(context.places.root.glob("Pulumi.*.yaml")):
        stack = path.name[len("Pulumi.") : -len(".yaml")]
        if "." in stack:
            continue
        try:
            cloud = settings.cloud_of(context.places.root, stack)
            opened.setdefault(cloud, open_cloud(cloud, context.env, context.places))
        except UserError as error:
            context.ui.say(f"{stack}: left out: {error.message}")
    return list(opened.values())


def _table(*heads: str, title: str) -> Table:
    """Return a table that a narrow screen does not cut: ids are there to be typed; what is long takes more lines."""
    least = {"name": 6, "verdict": 8}
    return Table(*(Column(head, no_wrap=head not in least, min_width=least.get(head), overflow="fold") for head in heads), title=title)


def _reap_table(name: str, found: Sequence[reap.Sighting]) -> Table:
    table = _table("pod", "status", "$/h", "end", "verdict", "name", title=f"Pods: {name}")
    for row in reap.rows(found):
        told = {None: "", True: ": ended", False: f": STILL THERE {row['problem']}"}[row["ended"]]
        price = "?" if row["price_per_hour"] is None else f"{row['price_per_hour']:.2f}"
        table.add_row(row["id"], row["status"], price, row["end"] or "", f"{row['verdict']}{told}", row["name"])
    return table


def _say_outcome(context: Context, name: str, outcome: Outcome) -> None:
    changes = ", ".join(f"{count} {op}" for op, count in outcome.changes.items() if op != "same") or "no change"
    context.ui.say(f"{outcome.operation} of stack '{name}': {changes} in {outcome.seconds:.1f} s (engine {outcome.engine})")
