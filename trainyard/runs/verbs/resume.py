"""Go on with a run whose attempt has ended: a new attempt of its name, from the newest checkpoint that is whole.

What ran is known from the record and the bundle, here or in the run's bucket; what may change is what the recipe allows.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.clouds.protocol import Cloud
from trainyard.errors import RefusedError, StoreError, UserError
from trainyard.recipes import basecheck, code
from trainyard.recipes.bundled import code_in
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.summaries import Value, Values
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import baselook, shape, startbook, steps
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.startedfrom import started_from
from trainyard.runs.records.stores import another_store
from trainyard.runs.records.summary import cost, succeeded
from trainyard.runs.trackers.describe import lineage
from trainyard.runs.verbs.again import data_again, named_by, own_data, values_again
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.runs.verbs.history import PastAttempt, RunHistory, history_of, home_of
from trainyard.runs.verbs.past import bundle_of
from trainyard.runs.verbs.prepare import RunPlan, make, priced_to_begin, warm
from trainyard.runs.verbs.train import code_of, device_of
from trainyard.settings.table import StackSettings
from trainyard.storage import checkpoints
from trainyard.storage.checkpoints import Checkpoint, CheckpointPlace
from trainyard.storage.client import StoreSettings
from trainyard.storage.seal import read

if TYPE_CHECKING:
    from trainyard.ledger.keys import StartKey

_BOUND = "a checkpoint goes on with the rows that it was made with"


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """What a person asked ``invoke resume`` for."""

    run: str
    stack: str | None = None
    hours: float | None = None
    budget: float | None = None
    """Dollars of the whole run: what its earlier attempts have cost counts."""
    sets: Sequence[str] = ()
    yes: bool = False
    words: Sequence[str] | None = None
    """What stood behind ``--``: another command."""
    key: StartKey | None = None
    """Said again, it gives the same run (keyed.py)."""


@dataclass(frozen=True, slots=True)
class _Again:
    """The next attempt of a run, as far as its earlier ones decide it."""

    history: RunHistory
    recipe: Recipe
    values: Values
    settings: StackSettings
    cloud: Cloud
    stack: str


def prepare(
    context: CommandContext,
    request: ResumeRequest,
    *,
    resumes: int | None = None,
    from_start: bool = False,
) -> RunFolder:
    """Validate, choose the checkpoint, estimate and write the next attempt's folder; return it, ready to be driven.

    ``resumes``: how often it may be resumed by itself, ``from_start``: without a checkpoint it begins anew. Raises UserError,
    RefusedError (a living run, a success that nothing changes, no checkpoint), NoCapacity.
    """
    history = history_of(context, request.run, request.stack)
    base = history.newest.record
    stack = request.stack or base.environment
    stated = context.settings(stack)
    warm(context, stack)
    cloud = context.cloud(stack)
    _refuse_other_bucket(context, history, stack)
    settings, told_by_env = shape.from_environment(stated, context.env, cloud.name)
    for line in told_by_env:
        context.ui.say(f"settings   {line}")
    startbook.refuse(context.places.root, context.ui.say)
    recipe = load_recipe(context.places.root, base.recipe)
    with bundle_of(base, history.newest.folder, lambda: history.store, _anew(base, recipe)) as bundle:
        values = _values(recipe, base, request, bundle, device_of(settings, cloud) if stack != base.environment else None)
        again = _Again(history, recipe, values, settings, cloud, stack)
        _refuse_done(context, again, request)
        baselook.look_up(context, values, settings, again=True)
        basecheck.refuse(values, on_this_machine=cloud.name == "local" or cloud.simulated, volume=bool(settings.volume))
        chosen = _choose(context, again, from_start)
        _refuse_nothing_left(again, request, chosen)
        plan = _plan(context, again, request, bundle, chosen, settings.resume if resumes is None else resumes)
        return make(context, priced_to_begin(context, plan, cloud), cloud, history.label)


def _plan(
    context: CommandContext, again: _Again, request: ResumeRequest, bundle: Path, chosen: Checkpoint | None, resumes: int
) -> RunPlan:  # fmt: skip
    base, recipe, values = again.history.newest.record, again.recipe, again.values
    anew = any(variable.kind == "folder" for variable in named_by(recipe, request.sets, request.words))
    own = code_of(context, recipe, values) if anew else code_in(bundle)
    if own is not None and isinstance(values.get("command"), list):
        code.check_command([str(word) for word in values["command"]], own)  # type: ignore[union-attr]
    dataset = data_again(base, recipe, again.history.store, _BOUND)
    context.ui.say(f"recipe     {recipe.name}; data {dataset.describe()}")
    spent = base.spent_before + cost(base)
    return RunPlan(
        stack=again.stack, user=again.history.user, recipe=recipe, values=values, data=dataset, code=own,
        code_summary=None if anew else base.code, hours=base.hours if request.hours is None else request.hours,
        budget=_budget(context, again.history, request.budget, spent), settings=again.settings, asked_data=own_data(base, recipe),
        yes=request.yes, key=request.key, spent_before=spent, resumes=resumes, deliver=base.deliver,
        resumed_from=started_from(chosen) if chosen else None, init_from=base.init_from, after=again.history.last,
        entry=base.entry, tracked_as=lineage(base) if chosen else "",
    )  # fmt: skip


def _budget(context: CommandContext, history: RunHistory, whole: float | None, spent: float) -> float | None:
    """Return what is left of the run's budget; raises RefusedError where nothing is."""
    base = history.newest.record
    if whole is None:
        whole = None if base.budget is None else base.budget + base.spent_before
    if whole is None:
        return None
    if whole - spent <= 0:
        raise RefusedError(
            f"the budget of {base.id} is ${whole:.2f}, and its attempts have cost ${spent:.2f} of it; nothing was rented",
            hint=f"Allow it more: invoke resume {base.id} --budget {2 * max(whole, spent):.2f}",
        )
    context.ui.say(f"budget     ${whole - spent:.2f} of ${whole:.2f} are left: ${spent:.2f} went to earlier attempts")
    return whole - spent


def _refuse_other_bucket(context: CommandContext, history: RunHistory, stack: str) -> None:
    """Refuse a stack whose results go elsewhere: the run's name, checkpoints and results belong together."""
    base, store = history.newest.record, history.store
    if stack == base.environment:
        return
    if store is None:
        raise UserError(f"{base.id} has no bucket: it can only be resumed on its own stack '{base.environment}'")
    target = bucket_of(context, stack)
    if (target.bucket, target.endpoint) != (store.bucket, store.endpoint):
        raise UserError(
            f"the checkpoints of {base.id} lie in {store.url}, and stack '{stack}' keeps its results in {target.url}",
            hint=f"Give both the same bucket (trainyard:bucket: {store.bucket}), or resume it on stack '{base.environment}'.",
        )


def _values(recipe: Recipe, base: RunRecord, request: ResumeRequest, bundle: Path, device: str | None) -> Values:
    """Return the values of the next attempt; raises UserError for a changed one that no checkpoint can bear."""
    values = values_again(recipe, base, request.sets, request.words, bundle, device)
    if wrong := _unbearable(recipe, base.values, values):
        free = ", ".join(variable.name for variable in recipe.variables if variable.resume)
        other = shlex.quote(f"{wrong[0]}={_shown(values[wrong[0]])}")
        raise RefusedError(
            f"a checkpoint of {base.id} cannot bear another {wrong[0]} ({_shown(base.values.get(wrong[0]))} -> {_shown(values[wrong[0]])})",
            hint=f"What may change: {free or 'nothing'}. Another {wrong[0]} is another training: invoke rerun {base.id} --set {other}",
        )
    return values


def _unbearable(recipe: Recipe, before: Mapping[str, Value], after: Mapping[str, Value]) -> list[str]:
    """Return the variables that differ and must not, where a training goes on from a checkpoint."""
    fixed = [variable for variable in recipe.variables if not variable.resume and variable.kind not in ("file", "script", "folder")]
    return [variable.name for variable in fixed if variable.name in before and before[variable.name] != after.get(variable.name)]


def _shown(value: Value) -> str:
    return shlex.join(value) if isinstance(value, list) else str(value)


def _refuse_done(context: CommandContext, again: _Again, request: ResumeRequest) -> None:
    """Refuse to go on from a success that nothing is changed about."""
    newest = again.history.newest
    if not _is_success(newest, again.history.store):
        return
    base = newest.record
    changed = [
        one.name for one in named_by(again.recipe, request.sets, request.words) if base.values.get(one.name) != again.values.get(one.name)
    ]
    if not changed:
        raise RefusedError(
            f"attempt {base.attempt} of {base.id} is a success: nothing of it is left to be trained; nothing was rented",
            hint=_beyond_success(context, again),
        )
    context.ui.say(f"resume     attempt {base.attempt} is a success; with another {', '.join(changed)} it goes on")


def _refuse_nothing_left(again: _Again, request: ResumeRequest, chosen: Checkpoint | None) -> None:
    """Refuse where the checkpoint tells that it is as far as the values let a training go, unless only its result is missing."""
    left = chosen and steps.left(again.recipe, again.values, chosen, again.history.store)
    if not left or left.done < left.limit:
        return
    base = again.history.newest.record
    is_success = _is_success(again.history.newest, again.history.store)
    changed = (
        left.variable in [one.name for one in named_by(again.recipe, request.sets, request.words)]
        and base.values.get(left.variable) != left.limit
    )
    if not is_success and (not changed or left.done == left.limit):
        return
    raise RefusedError(
        f"{chosen.place if chosen else ''} has done {left.done:g} of {left.variable} {left.limit:g}: nothing is left to be trained; "
        "nothing was rented",
        hint=f"Name more than it has done: invoke resume {request.run} --set {left.variable}={int(left.done) + 1}\n"
        f"Less is another training: invoke train, with --set {left.variable}={left.limit:g}",
    )


def _beyond_success(context: CommandContext, again: _Again) -> str:
    """Return what can be gone on with where the newest attempt is a success: its checkpoint, an earlier attempt, its adapter, nothing."""
    history, base = again.history, again.history.newest.record
    newest = next(iter(places_of(context, history)), None)
    if newest is None:
        return "It has left no checkpoint to train on from.\n" + _other_beginnings(base, again.recipe)
    epochs = base.values.get("num_train_epochs")
    more = f"num_train_epochs={int(epochs) + 1}" if isinstance(epochs, int | float) else "NAME=VALUE"
    if newest.key.attempt == base.attempt:
        return f"To train on from its last checkpoint, change what ends it: invoke resume {base.id} --set {more}"
    earlier = history.of(newest.key.attempt)
    change = f" --set {more}" if earlier is None or _is_success(earlier, history.store) else ""
    return f"It has left no checkpoint; to go on from {newest}: invoke resume {base.id}/{newest.key.attempt}{change}"


def _is_success(past: PastAttempt, store: StoreSettings | None) -> bool:
    if past.folder is not None or past.record.ended:
        return succeeded(past.record)
    return store is not None and read(store, past.key.success) is not None


def _choose(context: CommandContext, again: _Again, from_start: bool) -> Checkpoint | None:
    """Return the newest checkpoint that is proven and bears the values, saying which ones are not; raises RefusedError for none."""
    history, base = again.history, again.history.newest.record
    for place in places_of(context, history):
        of = history.of(place.key.attempt)
        try:
            if of is not None and (wrong := _unbearable(again.recipe, of.record.values, again.values)):
                raise StoreError(f"{place}: it was made with another {', '.join(wrong)}")
            checkpoint = checkpoints.load(place, history.store, of.record.token if of else None)
        except StoreError as error:
            if not checkpoints.is_its_fault(error):
                raise
            context.ui.warn(f"not taken: {error.message}; the one before it is looked at")
            continue
        context.ui.say(f"resume     {base.id} from {place}, {len(checkpoint.files)} files, proven")
        return checkpoint
    if elsewhere := another_store(base.bucket, history.store):
        raise RefusedError(
            f"{base.id} has no complete checkpoint in {history.store and history.store.url}; nothing was rented", hint=elsewhere
        )
    if from_start:
        context.ui.say(f"resume     {base.id} has no checkpoint yet: it trains from its start")
        return None
    raise RefusedError(
        f"{base.id} has no complete checkpoint to go on from; nothing was rented", hint=_other_beginnings(base, again.recipe)
    )


def places_of(context: CommandContext, history: RunHistory) -> list[CheckpointPlace]:
    """Return where checkpoints of the run lie, newest first: in its bucket, or with what came home."""
    at_home = [place for one in reversed(history.attempts) for place in checkpoints.places_at_home(home_of(context, one.record), one.key)]
    if history.store is None:
        return at_home
    stored = checkpoints.places(history.store, history.user, history.label)
    last = history.newest.record.attempt
    # What only came home (the bucket was shut at the end) is of the attempt's end, and so the newest of it.
    both = [*at_home, *(place for place in stored if place.key.attempt <= last)]
    return sorted(both, key=lambda place: place.key.attempt, reverse=True)


def _other_beginnings(base: RunRecord, recipe: Recipe) -> str:
    """Return the commands that begin another training of a run that has no checkpoint."""
    adapter = next((one.name for one in recipe.variables if one.kind == "run"), None) if succeeded(base) else None
    start = f"\nOr start a new training from what it has made: invoke train --set {adapter}={base.id}" if adapter else ""
    return f"Begin it anew: invoke rerun {base.id}/{base.attempt} --stack {base.environment}{start}"


def _anew(base: RunRecord, recipe: Recipe) -> str:
    own = own_data(base, recipe) if base.data.kind != "none" else None
    words = ["invoke", "train", "--stack", base.environment, "--recipe", base.recipe, "--name", base.label]
    command = base.values.get("command")
    behind = ["--", *map(str, command)] if isinstance(command, list) else []
    return f"Begin it anew: {shlex.join([*words, *(['--data', own] if own else []), *behind])}"
