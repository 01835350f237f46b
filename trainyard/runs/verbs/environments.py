"""Operate an environment as a whole: up, preview, refresh, destroy; outputs, reaper, audit."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from trainyard.clouds.absence import KnownPod, PodLeft
from trainyard.errors import RefusedError, StillThere, TrainyardError, UserError, kind_of
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import declaredpods
from trainyard.runs.planning.upkeep import mark_up, obtain_store
from trainyard.runs.records.acts import record_act, record_limits
from trainyard.runs.records.record import RunFolder, all_folders
from trainyard.runs.records.stackresources import pods_in, pods_with_address
from trainyard.runs.signals import leaving
from trainyard.runs.verbs import attach, caches
from trainyard.runs.verbs.anchors import anchoring
from trainyard.runs.verbs.destroy import destroy
from trainyard.stacks import facade
from trainyard.stacks.model import Event, Operation, OperationOutcome, Stack

_SECRET_OUTPUTS = ("ssh_private_key", "host_key_seed")


def operate(context: CommandContext, name: str, operation: Operation, *, yes: bool, as_json: bool, cache: bool = False) -> int:
    """Run one operation on an environment; raises EngineError or StillThere when it failed.

    A destroy with ``cache`` deletes the model caches, too; without it they stay, and what they cost is said.
    SIGTERM and SIGHUP are passed on as Ctrl-C is: engine and plugins end with the verb, what was begun is written down.
    """
    with leaving():
        _operate(context, name, operation, yes=yes, as_json=as_json)
        return caches.after_destroy(context, name, remove=cache) if operation == "destroy" else 0


def _operate(context: CommandContext, name: str, operation: Operation, *, yes: bool, as_json: bool) -> None:
    stack = context.stack(name)

    def on_event(event: Event) -> None:
        if as_json:
            print(json.dumps(event), flush=True)
        else:
            context.ui.engine_event(event)

    if operation == "destroy":
        _end_runs(context, name, yes=yes)
        record_act(context, operation, name)
        with anchoring(context):
            outcome = destroy(context, stack, [folder.load() for folder in live_runs(context, name)], on_event)
    else:
        settings = context.settings(name)  # what is wrong in them is told before an engine starts
        if operation == "up":
            context.cloud(name)  # without its key the cloud could not be asked by destroy whether anything is left
            obtain_store(context, stack)
            record_act(context, operation, name)
            record_limits(context, name, settings)
            declaredpods.reserve(context, stack, settings)
        with anchoring(context) if operation == "up" else contextlib.nullcontext():
            outcome = facade.operate(stack, operation, on_event)
        if not outcome.ok:
            error = outcome.error(f"{operation} of stack '{name}' failed (engine {outcome.engine}): ")
            raise _with_what_stands(context, stack, error) if operation == "up" else error
        if operation == "up":
            mark_up(context.places, stack)
            declaredpods.note_up(context, stack)
    _say_outcome(context, name, outcome)


def _with_what_stands(context: CommandContext, stack: Stack, error: TrainyardError) -> TrainyardError:
    """Return the error of a failed up; StillThere where it has left a pod that costs money and cannot be used."""
    resources = facade.readable_resources(stack)
    reached = pods_with_address(resources) if kind_of(error) not in ("boot-failed", "unreachable") else set()
    pods = [KnownPod(pod.id, pod.price_per_hour) for pod in pods_in(resources, replaced=True) if pod.id and pod.id not in reached]
    left = [str(pod_left) for pod_left in map(lambda pod: _stands(context, stack, pod), pods) if pod_left is not None]
    if not left:
        return error
    hint = f"Try again: invoke up --stack {stack.name}\nEnd them: invoke destroy --stack {stack.name}"
    return StillThere("\n".join([error.message, *(f"still there: {line}" for line in left)]), hint=hint, facts=error.facts)


def _stands(context: CommandContext, stack: Stack, pod: KnownPod) -> PodLeft | None:
    """Return what is known of a pod that a failed up has left, None when the cloud denies it."""
    try:
        info = context.cloud(stack.name).get(pod.id)
    except TrainyardError as error:
        return PodLeft(pod.id, pod.price_per_hour, None, f"whether it runs is not known: {error.message}")
    return None if info is None else PodLeft(info.id, info.price_per_hour or pod.price_per_hour, info.end, info.raw_status)


def shown_outputs(context: CommandContext, name: str, *, show_secrets: bool) -> dict[str, Any]:
    """Return the outputs of a stack, secrets as ``[secret]`` unless asked for."""
    outputs = facade.outputs(context.stack(name))
    if not outputs:
        raise UserError(f"stack '{name}' has no outputs yet", hint=f"Run: invoke up --stack {name}")
    return outputs if show_secrets else {key: "[secret]" if key in _SECRET_OUTPUTS else value for key, value in outputs.items()}


def live_runs(context: CommandContext, name: str) -> list[RunFolder]:
    """Return the attempts of an environment that have not ended."""
    folders = []
    for folder in all_folders(context.places.runs):
        try:
            record = folder.load()
        except UserError as error:
            # A damaged record must not keep a destroy from ending what lies under the environment's fence.
            context.ui.warn(error.message)
            continue
        if record.environment == name and not record.reached("ended"):
            folders.append(folder)
    return folders


def _end_runs(context: CommandContext, name: str, *, yes: bool) -> None:
    live = live_runs(context, name)
    if not live:
        return
    for folder in live:
        record = folder.load()
        price = record.pod.price
        context.ui.say(f"live run   {record.id} ({record.phase}), ${price:.2f}/h; what it has not saved is lost")
    if not yes and not context.ui.agreed(f"End {len(live)} live run(s) of '{name}'? [y/N] "):
        raise RefusedError(
            f"stack '{name}' has live runs; nothing was destroyed",
            hint="\n".join(["Say --yes, or end them one by one:", *(f"invoke cancel {folder.load().id}" for folder in live)]),
        )
    for folder in live:
        try:
            attach.cancel(context, str(folder.load().id), now=True)
        except TrainyardError as error:
            # The environment's own Lease sweeps by fence id, so one stuck run must not stop the rest.
            context.ui.warn(f"{folder.load().id}: {error}")


def _say_outcome(context: CommandContext, name: str, outcome: OperationOutcome) -> None:
    changes = ", ".join(f"{count} {op}" for op, count in outcome.changes.items() if op != "same") or "no change"
    context.ui.say(f"{outcome.operation} of stack '{name}': {changes} in {outcome.seconds:.1f} s (engine {outcome.engine})")
