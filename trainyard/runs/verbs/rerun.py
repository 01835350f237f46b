"""Run an attempt again, under a new name: its recipe, values, data and code as its snapshot and bundle have them.

What is missing of them is told before anything is rented. What may differ is what a person says: variables, and the stack.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import trainyard
from trainyard.clouds.protocol import Cloud
from trainyard.errors import UserError
from trainyard.recipes import basecheck, code
from trainyard.recipes.bundled import BOUND_BY, code_in, hashes_in
from trainyard.recipes.contract import TEMPLATES, Recipe, load_recipe
from trainyard.recipes.data import Data
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import baselook, shape, startbook
from trainyard.runs.planning.bucketdata import resolver
from trainyard.runs.planning.deliverymeans import planned
from trainyard.runs.records import attempts
from trainyard.runs.records import snapshot as snapshots
from trainyard.runs.records.identity import new_label
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.verbs.again import data_again, named_by, own_data, values_again
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.runs.verbs.initfrom import adapter_of
from trainyard.runs.verbs.past import SeenAttempt, seen
from trainyard.runs.verbs.prepare import PricedRun, RunPlan, make, priced_to_begin, warm
from trainyard.runs.verbs.train import code_of, device_of
from trainyard.settings.table import StackSettings
from trainyard.settings.user import user_name

if TYPE_CHECKING:
    from trainyard.ledger.keys import StartKey
    from trainyard.runs.planning.requestedits import EditedRequest

_BOUND = "a rerun trains on the data that the run had"
_SUBMITTED = "a submitted run trains on the data as they were when it was submitted"


@dataclass(frozen=True, slots=True)
class SubmittedRun:
    """For which entry of the queue a run is begun, and as which attempt; ``confirm`` as in RunPlan."""

    entry: str
    user: str
    attempt: int
    confirm: Callable[[], object]
    judge: Callable[[PricedRun], object]
    """Called when it is known what it costs now, before anything is made: what it raises keeps it from that."""
    only_offers: tuple[str, ...] | None = None
    """Ids of the only offers to try, in this order; None: as the settings say."""


@dataclass(frozen=True, slots=True)
class RerunRequest:
    """What a person asked ``invoke rerun`` for."""

    run: str
    stack: str | None = None
    """Where, and so by whose settings; None: where it ran, by the edited request, too, that it was asked for with."""
    sets: Sequence[str] = ()
    name: str | None = None
    hours: float | None = None
    budget: float | None = None
    yes: bool = False
    words: Sequence[str] | None = None
    """What stood behind ``--``: another command."""
    submitted: SubmittedRun | None = None
    """It is no run again, but the first one of what was submitted to the queue."""
    key: StartKey | None = None
    """Said again, it gives the same run (keyed.py)."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where it runs this time."""

    stack: str
    settings: StackSettings
    cloud: Cloud
    user: str
    edited: EditedRequest | None = None


def prepare(context: CommandContext, request: RerunRequest) -> RunFolder:
    """Validate, estimate and write the folder of the new run; return it, ready to be driven.

    Raises UserError (also for data or a bundle that are gone), RefusedError or NoCapacity before anything is created.
    """
    with seen(context, request.run, request.stack) as base, base.bundle(context) as bundle:
        folder = prepare_from(context, request, base, bundle)
        before, after = hashes_in(bundle), hashes_in(folder.bundle)
    at = f" --stack {request.stack}" if request.stack and not base.here else ""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if not changed:
        context.ui.say(f"rerun      of {base.key}: the same bundle, byte for byte")
    elif changed <= set(BOUND_BY):
        context.ui.say(f"rerun      of {base.key}: the same bundle; its data are bound to the sha256 that they had on its pod")
    else:
        context.ui.say(f"rerun      of {base.key}, with another bundle; what differs: invoke diff {base.key} {folder.load().id}{at}")
    return folder


def prepare_from(context: CommandContext, request: RerunRequest, base: SeenAttempt, bundle: Path) -> RunFolder:
    """Prepare the next run of what an attempt was made of; raises what prepare() does."""
    plan, cloud = planned_from(context, request, base, bundle)
    run = priced_to_begin(context, plan, cloud)
    if request.submitted is not None:
        request.submitted.judge(run)
    return make(context, run, cloud, request.name)


def planned_from(context: CommandContext, request: RerunRequest, base: SeenAttempt, bundle: Path) -> tuple[RunPlan, Cloud]:
    """Return what the next run of what an attempt was made of would be, and its cloud; raises UserError."""
    target = _target(context, request, base)
    return _plan(context, request, base, recipe_of(context, base), target, bundle), target.cloud


def _target(context: CommandContext, request: RerunRequest, base: SeenAttempt) -> _Target:
    stack = request.stack or base.record.environment
    stated = context.settings(stack)
    warm(context, stack)
    cloud = context.cloud(stack)
    user = request.submitted.user if request.submitted else user_name(context.env, stated.user)
    attempts.refuse_live(context.places.runs, user, new_label(context.places.runs, user, request.name, datetime.now(), stack))
    settings, told_by_env = shape.from_environment(stated, context.env, cloud.name)
    for line in told_by_env:
        context.ui.say(f"settings   {line}")
    startbook.refuse(context.places.root, context.ui.say)
    if request.submitted is not None and request.submitted.only_offers is not None:
        settings = replace(settings, only_offers=request.submitted.only_offers)
    edited = _edited(base, request, settings)
    if edited is not None:
        settings = edited.settings(settings, stack)
        more = "" if request.submitted else f"; as the settings alone say: --stack {stack}"
        context.ui.say(f"request    as {edited.name} says, which it was asked for with{more}")
    return _Target(stack, settings, cloud, user, edited)


def _edited(base: SeenAttempt, request: RerunRequest, settings: StackSettings) -> EditedRequest | None:
    """Return the edited request that the run was asked for with, where it is asked for so again; raises UserError for another cloud's."""
    folder = base.folder.snapshot / snapshots.REQUEST
    if not folder.is_dir() or (request.stack is not None and not request.submitted):
        return None
    from trainyard.runs.planning.requestedits import load  # brings the provider

    return next((load(file, settings.cloud, file.name) for file in folder.iterdir()), None)


def recipe_of(context: CommandContext, base: SeenAttempt) -> Recipe:
    """Return the recipe as the run had it; as this checkout has it, and that is said, where the run's snapshot does not hold it whole."""
    name, folder = base.record.recipe, base.folder.snapshot
    taken = snapshots.read(folder)
    if taken is not None and taken.trainyard != trainyard.__version__:
        context.ui.say(f"rerun      it ran with Trainyard {taken.trainyard}; what drives the pod is of {trainyard.__version__} now")
    if taken is not None and (folder / TEMPLATES / name / "recipe.yaml").is_file():
        with contextlib.suppress(UserError):
            return load_recipe(folder, name)
    context.ui.warn(f"{base.key} has no snapshot of its recipe {name}: it is taken as this checkout has it")
    return load_recipe(context.places.root, name)


def _plan(
    context: CommandContext, request: RerunRequest, base: SeenAttempt, recipe: Recipe, target: _Target, bundle: Path
) -> RunPlan:  # fmt: skip
    record, settings, cloud = base.record, target.settings, target.cloud
    device = device_of(settings, cloud) if target.stack != record.environment else None
    values = values_again(recipe, record, request.sets, request.words, bundle, device)
    baselook.look_up(context, values, settings)
    basecheck.refuse(values, on_this_machine=cloud.name == "local" or cloud.simulated, volume=bool(settings.volume))
    values, adapter = adapter_of(context, recipe, values, target.stack, target.user)
    anew = any(variable.kind == "folder" for variable in named_by(recipe, request.sets, request.words))
    own = code_of(context, recipe, values) if anew else _code(values, bundle)
    dataset = _data(context, record, recipe, target, _SUBMITTED if request.submitted else _BOUND)
    context.ui.say(f"recipe     {recipe.name}; data {dataset.describe()}")
    if record.resumed_from is not None:
        context.ui.say(f"rerun      {base.key} went on from a checkpoint of {record.resumed_from.run}; this one trains from its start")
    whole = None if record.budget is None else record.budget + record.spent_before
    plan = RunPlan(
        stack=target.stack, user=target.user, recipe=recipe, values=values, data=dataset, code=own,
        code_summary=None if anew else record.code, hours=record.hours if request.hours is None else request.hours,
        budget=whole if request.budget is None else request.budget, settings=settings, asked_data=own_data(record, recipe),
        yes=request.yes, key=request.key, resumes=settings.resume, init_from=adapter, rerun_of=str(base.key),
        deliver=None if cloud.simulated else planned(context.env, None, settings.deliver, context.places.root),
        snapshot=None if anew or snapshots.read(base.folder.snapshot) is None else base.folder.snapshot, edited=target.edited,
    )  # fmt: skip
    return plan if request.submitted is None else _as_submitted(plan, record, request.submitted)


def _as_submitted(plan: RunPlan, record: RunRecord, submitted: SubmittedRun) -> RunPlan:
    """Return the plan of a run that was asked for once, and is begun now by somebody who does not follow it."""
    return replace(
        plan, resumes=record.resumes, deliver=record.deliver, rerun_of=record.rerun_of, detach=True, attempt=submitted.attempt,
        entry=submitted.entry, confirm=submitted.confirm,
    )  # fmt: skip


def _code(values: Values, bundle: Path) -> code.Code | None:
    own = code_in(bundle)
    if own is not None and isinstance(values.get("command"), list):
        code.check_command([str(word) for word in values["command"]], own)  # type: ignore[union-attr]
    return own


def _data(context: CommandContext, record: RunRecord, recipe: Recipe, target: _Target, bound: str) -> Data:
    """Return the run's data, having looked whether all of them are still to be had; raises UserError naming what is not."""
    store = None
    if record.data.kind in ("file", "folder"):
        with contextlib.suppress(UserError):
            store = bucket_of(context, target.stack)
    elif record.data.kind in ("s3", "url"):
        _refuse_other_objects(context, record, target, bound)
    elif record.data.kind == "hf" and "@" not in str(record.data.reference):
        context.ui.warn(f"data {record.data.reference} name no revision: what the Hub has now may be other rows than the run had")
    return data_again(record, recipe, store, bound)


def _refuse_other_objects(context: CommandContext, record: RunRecord, target: _Target, bound: str) -> None:
    """Refuse data in a bucket of which an object is gone, or is another one and no version of it is kept."""
    there = {item.url: item.etag for item in resolver(context, target.settings.store)(str(record.data.reference))}
    for file in record.data.files:
        if there.get(file.src) == file.etag or (file.version and file.src in there):
            continue
        what = "is another object now" if file.src in there else "is not there any more"
        raise UserError(
            f"data: {file.src} {what}, and {bound} (it was {file.etag or str(file.sha256)[:12]}); nothing was rented",
            hint=f"Put it back as it was, or train on what is there: invoke train --recipe {record.recipe} --data {record.data.reference}",
        )
