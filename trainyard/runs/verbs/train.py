"""Begin a run: validate everything that a person asked for. Nothing is rented here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.clouds.protocol import Cloud
from trainyard.errors import UserError
from trainyard.reading import read
from trainyard.recipes import basecheck, code, data, requirements
from trainyard.recipes.configfile import ConfigDocument, recipe_named_in
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.since import LAST
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import resolve, sets_with
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import baselook, shape, startbook
from trainyard.runs.planning.deliverymeans import planned
from trainyard.runs.records import attempts
from trainyard.runs.records.identity import new_label
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs.prepare import PricedRun, RunPlan, make, priced, priced_to_begin, warm
from trainyard.settings import reader
from trainyard.settings.table import SETTINGS, StackSettings
from trainyard.settings.user import user_name

if TYPE_CHECKING:
    from trainyard.ledger.keys import StartKey

_SAMPLE = "the recipe's own sample: --data names yours"


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What a person asked ``invoke train`` for."""

    stack: str
    recipe: str = "lora"
    data: str | None = None
    config: Path | ConfigDocument | None = None
    sets: Sequence[str] = ()
    name: str | None = None
    hours: float | None = None
    budget: float | None = None
    yes: bool = False
    words: Sequence[str] | None = None
    """What stood behind ``--``, None without one: the command of a recipe that runs one."""
    resume: int | None = None
    """How often the run is resumed by itself after a lost pod; None: as the settings say."""
    deliver: str | None = None
    """Where the result goes after the run; None: as the settings say."""
    detach: bool = False
    """It ends as soon as the training runs and the pod can commit alone."""
    user: str | None = None
    """Whose run it is; None: as the settings say."""
    key: StartKey | None = None
    """Said again, it gives the same run (keyed.py)."""
    attempt: int | None = None
    """The number that its attempt must get, so that of two who ask at once one begins it; None: the next."""
    init_from: str | None = None
    """A finished run whose adapter the training starts from; ``last``: the user's newest success of the recipe, if there is one."""
    since: str | None = None
    """An attempt whose data are not taken again; ``last`` as of ``init_from``."""
    values: ConfigDocument | None = None
    """Variables that win over those of ``config``."""
    only_offers: tuple[str, ...] | None = None
    """Ids of the only offers to try, in this order; None: as the settings say."""
    request_file: Path | None = None
    """An edited create request: what it says wins over the stack's settings, and nothing else is sent."""
    rehearsed: bool = False
    """An emulator stands for the cloud, and the request file is one to the real cloud."""
    base: Path | None = None
    """The folder that stands for the one in which a command is typed; None: the working directory."""


def recipe_of(name: str | None, config: Path | None, words: Sequence[str] | None) -> str:
    """Return the recipe that is asked for: by its name, by a config file, or by a command. Raises UserError as the file's reader does."""
    return name or (recipe_named_in(config) if config else None) or ("lora" if words is None else "command")


def number_like(setting: str, value: object, said: str) -> float | None:
    """Return the number that stands for a setting, None for none; raises UserError, which calls it ``said``, for what it cannot be."""
    return None if value is None else float(str(read(SETTINGS[setting].shape, value, said)))


def prepare(context: CommandContext, request: TrainRequest) -> RunFolder:
    """Validate, estimate and write the run's folder; return it, ready to be driven.

    Raises UserError, RefusedError or NoCapacity before anything is created.
    """
    settings = context.settings(request.stack)
    warm(context, request.stack)
    cloud = context.cloud(request.stack)
    user = request.user or user_name(context.env, settings.user)
    # A bad name, or one that is at work, is refused before anything is looked at.
    attempts.refuse_live(context.places.runs, user, new_label(context.places.runs, user, request.name, datetime.now(), request.stack))
    return make(context, priced_to_begin(context, _plan(context, request, cloud, settings, user), cloud), cloud, request.name)


def foresee(context: CommandContext, request: TrainRequest) -> PricedRun:
    """Return what a run would be and cost, with everything validated; nothing is created. Raises what prepare() does so far."""
    plan, cloud = planned_run(context, request)
    return priced(context, plan, cloud)


def planned_run(context: CommandContext, request: TrainRequest) -> tuple[RunPlan, Cloud]:
    """Return what a run would be, with all that was asked for validated, and its cloud; what it costs is not asked.

    Raises UserError.
    """
    settings = context.settings(request.stack)
    cloud = context.cloud(request.stack)
    user = request.user or user_name(context.env, settings.user)
    return _plan(context, request, cloud, settings, user), cloud


def _plan(context: CommandContext, request: TrainRequest, cloud: Cloud, stated: StackSettings, user: str) -> RunPlan:
    """Validate everything, saying what a person wants to know of it."""
    ui = context.ui
    chosen = load_recipe(context.places.root, request.recipe)
    startbook.refuse(context.places.root, ui.say)
    settings, told_by_env = shape.from_environment(stated, context.env, cloud.name)
    settings = settings if request.only_offers is None else replace(settings, only_offers=request.only_offers)
    edited = None
    if request.request_file is not None:
        from trainyard.runs.planning.requestedits import load  # brings the provider

        edited = replace(load(request.request_file, settings.cloud, stack=request.stack), rehearsed=request.rehearsed)
        settings = edited.settings(settings, request.stack)
        ui.say(f"request    as {edited.name} says; an attempt that goes on is asked for as the stack's settings say")
    for line in told_by_env:
        ui.say(f"settings   {line}")
    request = _with_script_of_env(context, _with_last(context, request, chosen, user), chosen)
    values = values_of(request, chosen, settings, cloud, on_note=lambda note: ui.say(f"config     {note}"))
    baselook.look_up(context, values, settings)
    basecheck.refuse(values, on_this_machine=cloud.name == "local" or cloud.simulated, volume=bool(settings.volume))
    adapter = None
    if any(variable.kind == "run" and values.get(variable.name) for variable in chosen.variables):
        from trainyard.runs.verbs.initfrom import adapter_of  # brings S3's libraries

        values, adapter = adapter_of(context, chosen, values, request.stack, user)
    dataset = _data(context, request, chosen, settings, values, user)
    ui.say(f"recipe     {chosen.name}; data {dataset.describe()}{f' ({_SAMPLE})' if _is_sample(dataset.reference, chosen) else ''}")
    own = code_of(context, chosen, values, request.base)
    for remark in dataset.remarks():
        ui.warn(remark)
    return RunPlan(
        stack=request.stack, user=user, recipe=chosen, values=values, data=dataset, code=own,
        hours=settings.hours if request.hours is None else request.hours,
        budget=settings.budget if request.budget is None else request.budget,
        settings=settings, asked_data=request.data, yes=request.yes,
        deliver=_delivery(context, request, settings, cloud),
        init_from=adapter, resumes=settings.resume if request.resume is None else request.resume, detach=request.detach,
        attempt=request.attempt, key=request.key, edited=edited,
    )  # fmt: skip


def values_of(
    request: TrainRequest, chosen: Recipe, settings: StackSettings, cloud: Cloud, on_note: Callable[[str], None] = lambda _: None
) -> Values:
    """Return the values that a request asks for, with what the stack's settings say; raises UserError with all that is wrong in them."""
    variables = {"device": device_of(settings, cloud), **reader.explicit_values(settings)}
    variables.pop("image", None)  # that of the stack stays the stack's: who goes on elsewhere has another one
    sets = sets_with(chosen, _sets(chosen, request), request.words)
    return resolve(chosen, request.config, sets, variables, on_note, request.values)


def _delivery(context: CommandContext, request: TrainRequest, settings: StackSettings, cloud: Cloud) -> str | None:
    if not cloud.simulated:
        return planned(context.env, request.deliver, settings.deliver, context.places.root, request.base)
    if request.deliver:
        would = planned(context.env, request.deliver, None, context.places.root, request.base)
        context.ui.say(f"deliver    a rehearsal's result goes nowhere, its bucket ends with it; the real run would deliver to {would}")
    return None


def device_of(settings: StackSettings, cloud: Cloud) -> str:
    """Return which lock, and with it which refusals, hold for what a stack rents; an emulator's GPUs are only told."""
    return "gpu" if settings.gpu and not cloud.simulated else "cpu"


def code_of(context: CommandContext, chosen: Recipe, values: Values, base: Path | None = None) -> code.Code | None:
    """Return the person's own code that goes along, having said what it is."""
    own = code.of_run(chosen, values, base)
    if own is not None:
        context.ui.say(f"code       {own.describe().removeprefix('code of ')}, sha256 {own.sha256[:12]}")
        for remark in own.remarks():
            context.ui.warn(remark)
    needs = requirements.of_run(own, values)
    if needs is not None:
        context.ui.say(f"packages   {needs.describe()}")
    return own


def _sets(chosen: Recipe, request: TrainRequest) -> Sequence[str]:
    if request.init_from is None:
        return request.sets
    from trainyard.runs.verbs.initfrom import variable_of

    return [*request.sets, f"{variable_of(chosen)}={request.init_from}"]


def _named_data(context: CommandContext, request: TrainRequest, user: str) -> str | None:
    """Return what is asked for as data; what another run has left, as the place where it lies."""
    if request.data is None or not request.data.startswith(data.OF_RUN):
        return request.data
    from trainyard.runs.verbs.initfrom import data_of

    return data_of(context, request.data, request.stack, user)


def _data(context: CommandContext, request: TrainRequest, chosen: Recipe, settings: StackSettings, values: Values, user: str) -> data.Data:
    reference, earlier = _named_data(context, request, user), None
    if request.since is not None:
        from trainyard.runs.verbs.lastrun import earlier_data

        earlier = earlier_data(context, request.stack, request.since)
    if reference is None or not reference.startswith(("s3://", "gs://", "https://")):
        try:
            return data.inspect(reference, chosen, values=values, earlier=earlier)
        except UserError as error:
            if reference is None and chosen.sample is not None and earlier is None:
                error.hint = "\n".join(filter(None, [error.hint, f"This is {_SAMPLE}."]))
            raise
    from trainyard.runs.planning.bucketdata import resolver

    return data.inspect(reference, chosen, resolver(context, settings.store), values, earlier)


def _is_sample(reference: str | None, recipe: Recipe) -> bool:
    return recipe.sample is not None and reference == str(recipe.folder / recipe.sample)


def _with_script_of_env(context: CommandContext, request: TrainRequest, chosen: Recipe) -> TrainRequest:
    """Return a request with the program that SCRIPT_URL names, as older guides have it, where nothing else says what to run."""
    url, digest = context.env.get("SCRIPT_URL"), context.env.get("SCRIPT_SHA256")
    says = request.words or request.config or any(text.partition("=")[0].strip() in ("script", "command") for text in request.sets)
    if not url or says or chosen.name != "command":
        return request
    context.ui.say("settings   script: as SCRIPT_URL says")
    script = f"{url}#sha256={digest}" if digest and "#" not in url else url
    return replace(request, sets=[*request.sets, f"script={script}"])


def _with_last(context: CommandContext, request: TrainRequest, chosen: Recipe, user: str) -> TrainRequest:
    """Return a request with the very attempt in place of ``last``; without one its training is as if nobody had said it."""
    if LAST not in (request.init_from, request.since):
        return request
    from trainyard.runs.verbs.lastrun import last_success

    key = last_success(context, request.stack, user, fits=lambda record: record.recipe == chosen.name)
    run = None if key is None else str(key)
    if key is None:
        context.ui.say(f"last       {user} has no success of recipe {chosen.name} yet: it begins from the base model, with all data")
    return replace(
        request,
        init_from=run if request.init_from == LAST else request.init_from,
        since=run if request.since == LAST else request.since,
    )
