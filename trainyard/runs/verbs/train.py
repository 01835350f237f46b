"""Begin a run: validate everything, estimate, write the record and the bundle. Nothing is rented here."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path

from trainyard.clouds.protocol import Cloud
from trainyard.config import git
from trainyard.recipes import basecheck, bundle, code, data, requirements, venvs
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.program import check_program
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import lock_for, locked_packages, needs_of, resolve, sets_with
from trainyard.runs.context import CommandContext
from trainyard.runs.life.rent import write_run_settings
from trainyard.runs.planning import consent, shape, startbook
from trainyard.runs.planning.estimate import Estimate, check_limits, estimate, price_ceiling
from trainyard.runs.planning.upkeep import ensure_environment
from trainyard.runs.records import attempts
from trainyard.runs.records.environment import EnvironmentOutputs
from trainyard.runs.records.identity import new_label
from trainyard.runs.records.key import make_whole
from trainyard.runs.records.ledger import Ledger
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.settings import reader
from trainyard.settings.table import StackSettings
from trainyard.settings.user import user_name
from trainyard.shipped import overlay
from trainyard.stacks import facade

NAMED = ("torch", "transformers", "peft", "accelerate", "unsloth")


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What a person asked ``invoke train`` for."""

    stack: str
    recipe: str = "lora"
    data: str | None = None
    config: Path | None = None
    sets: Sequence[str] = ()
    name: str | None = None
    hours: float | None = None
    budget: float | None = None
    yes: bool = False
    words: Sequence[str] | None = None
    """What stood behind ``--``, None without one: the command of a recipe that runs one."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run that was found right and affordable. Nothing of it exists yet."""

    stack: str
    user: str
    recipe: Recipe
    values: Values
    data: data.Data
    code: code.Code | None
    hours: float
    budget: float | None
    estimate: Estimate
    settings: StackSettings
    """The stack's settings, raised to what the recipe needs."""
    pod_secrets: list[str]


def prepare(context: CommandContext, request: TrainRequest) -> RunFolder:
    """Validate, estimate and write the run's folder; return it, ready to be driven.

    Raises UserError, RefusedError or NoCapacity before anything is created.
    """
    settings = context.settings(request.stack)
    # Deriving the key of the secrets takes 0.4 s of one core: it passes while everything is validated.
    threading.Thread(target=facade.warm, args=(context.stack(request.stack),), daemon=True).start()
    threading.Thread(target=attempts.preload, daemon=True).start()
    cloud = context.cloud(request.stack)
    plan = _plan(context, request, cloud, settings)
    here = cloud.name == "local" or cloud.simulated
    needs = requirements.of_code(plan.code, plan.values)
    _check_program(context, plan, None, certain=cloud.name == "local" and needs is None)
    if plan.code and needs and not here and plan.values.get("check_requirements"):
        venvs.check_code(plan.code, needs, context.ui.say)
    own = consent.own_files(request.data, plan.data, plan.recipe, plan.values, plan.code)
    consent.ask(context.ui, request.stack, cloud, settings.upload_consent, own, yes=request.yes)
    outputs = ensure_environment(context, request.stack)
    make_whole(context, outputs)
    if here:
        # Shared by all local pods of this machine, built before a pod exists.
        built = venvs.prepare(plan.recipe, plan.values, plan.code, context.places, context.ui.say)
        _check_program(context, plan, built, certain=cloud.name == "local" and not (needs and needs.project))
    return _write(context, plan, request.name, outputs)


def _check_program(context: CommandContext, plan: _Plan, built: Path | None, *, certain: bool) -> None:
    """Refuse a command whose program is nowhere; ``built``: the environment of its packages, where that is known by now."""
    words = plan.values.get("command")
    if not isinstance(words, list):
        return
    path = context.env.get("PATH", "")
    check_program(words, f"{built / 'bin'}:{path}" if built else path, certain=certain)


def _plan(context: CommandContext, request: TrainRequest, cloud: Cloud, stated: StackSettings) -> _Plan:
    """Validate everything and ask what it costs, saying what a person wants to know of it."""
    ui = context.ui
    user = user_name(context.env, stated.user)
    # A bad name, or one that is at work, is refused before anything is looked at.
    attempts.refuse_live(context.places.runs, user, new_label(context.places.runs, user, request.name, datetime.now(), request.stack))
    chosen = load_recipe(context.places.root, request.recipe)
    startbook.refuse(context.places.root, ui.say)
    settings, told_by_env = shape.from_environment(stated, context.env, cloud.name)
    for line in told_by_env:
        ui.say(f"settings   {line}")
    # What the stack rents decides which lock, and with it which refusals, hold; an emulator's GPUs are only told.
    device = "gpu" if settings.gpu and not cloud.simulated else "cpu"
    variables = {"device": device, **reader.explicit_values(settings)}
    sets = sets_with(chosen, request.sets, request.words)
    values = resolve(chosen, request.config, sets, variables, on_note=lambda note: ui.say(f"config     {note}"))
    basecheck.refuse(values, on_this_machine=cloud.name == "local" or cloud.simulated, volume=bool(settings.volume))
    dataset = _data(context, request.data, chosen, settings, cloud, values)
    ui.say(f"recipe     {chosen.name}; data {dataset.describe()}")
    own = _code(context, chosen, values)
    for remark in dataset.remarks():
        ui.warn(remark)
    for line in basecheck.needs_lines(chosen, values):
        ui.say(f"needs      {line}")
    hours = settings.hours if request.hours is None else request.hours
    budget = settings.budget if request.budget is None else request.budget
    expected, shaped = _estimate(context, cloud, settings, needs_of(chosen, values), hours, budget)
    ui.say(f"estimate   {expected.text()}")
    named = consent.pod_secrets(settings, context.env)
    if named:
        ui.say(f"secrets    the job gets {', '.join(named)} of yours (pod_secrets)")
    return _Plan(request.stack, user, chosen, values, dataset, own, hours, budget, expected, shaped, named)


def _estimate(
    context: CommandContext, cloud: Cloud, settings: StackSettings, needs: Values, hours: float, budget: float | None
) -> tuple[Estimate, StackSettings]:
    """Return what the run costs at most, and the settings of its pod; what is to be known beforehand is said."""
    ledger = Ledger(context.places.ledger)
    shaped = shape.raised(settings, needs, cloud.name)
    expected = estimate(cloud, shaped, hours, shape.failed_lately(ledger, cloud.name))
    for warning in shape.warnings(settings, shaped, needs):
        context.ui.warn(warning)
    if expected.avoided:
        shaped = replace(shaped, avoid_offers=(*shaped.avoid_offers, *expected.avoided))
        context.ui.warn(f"not taken, because their pods did not boot in the last hours: {', '.join(expected.avoided)}")
    for warning in check_limits(expected, settings, ledger, budget):
        context.ui.warn(warning)
    return expected, replace(shaped, max_price=price_ceiling(expected, shaped, ledger))


def _write(context: CommandContext, plan: _Plan, name: str | None, outputs: EnvironmentOutputs) -> RunFolder:
    runs = context.places.runs
    runs.mkdir(parents=True, exist_ok=True)
    label = new_label(runs, plan.user, name, datetime.now(), plan.stack)
    # The folder appears complete by one rename: a crash in here leaves no half run.
    with attempts.reserved(runs, plan.user, label) as draft:
        folder = RunFolder(draft.path)
        content = bundle.build(plan.recipe, plan.values, plan.data, folder.bundle, code=plan.code)
        attempt = attempts.claim(context, draft, plan.user, label, outputs.results, recipe=plan.recipe.name)
        record = RunRecord(
            user=plan.user, label=label, attempt=attempt, token=draft.token, environment=plan.stack, recipe=plan.recipe.name,
            values=plan.values, bundle_sha256=content.sha256, hours=plan.hours, created=time.time(), budget=plan.budget,
            pod_secrets=plan.pod_secrets, pod_env=plan.settings.pod_env_names, data=plan.data.summary(),
            code=plan.code.summary() if plan.code else None, bucket=outputs.results, cloud=plan.settings.cloud,
            git_commit=git_commit(context.places.root), versions=versions(plan.recipe, plan.values),
        )  # fmt: skip
        write_run_settings(context, record, folder, outputs, plan.settings)
        overlay(context.places.root, "playbooks", folder.playbooks)
        folder.save(record)
        ledger, target = Ledger(context.places.ledger), record.id.folder(runs)
        ledger.add(record.id, "prepared", estimate=plan.estimate.most, stack=plan.stack, recipe=plan.recipe.name)
        try:
            # Last of all: what was interrupted before is no run, and counts towards no limit.
            draft.path.rename(target)
        except BaseException:
            ledger.add(record.id, "ended", cost=0.0)
            raise
    return RunFolder(target)


def render_bundle(
    context: CommandContext,
    name: str,
    reference: str | None,
    config: Path | None,
    sets: Sequence[str],
    to: Path,
    words: Sequence[str] | None = None,
) -> bundle.Bundle:
    """Write a run's bundle into a folder with its data beside it; ``sh run.sh`` there runs it by hand."""
    chosen = load_recipe(context.places.root, name)
    values = resolve(chosen, config, sets_with(chosen, sets, words), {}, on_note=context.ui.say)
    dataset = data.inspect(reference, chosen, values=values)
    for remark in dataset.remarks():
        context.ui.warn(remark)
    content = bundle.build(chosen, values, dataset, to, code=_code(context, chosen, values))
    bundle.place_data(dataset, to / "input")
    return content


def versions(chosen: Recipe, values: Values) -> dict[str, str]:
    """Return the versions that shape a run: this Python, the Pulumi SDK, what the recipe's lock pins of NAMED."""
    pinned = locked_packages(lock_for(chosen, values))
    known = {"python": platform.python_version(), "pulumi": metadata.version("pulumi")}
    return known | {name: pinned[name] for name in NAMED if name in pinned}


def git_commit(root: Path) -> str | None:
    """Return the commit of the checkout, ``-dirty`` behind it when files differ; None outside git."""
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", at=root) or None


def _code(context: CommandContext, chosen: Recipe, values: Values) -> code.Code | None:
    """Return the person's own code that goes along, having said what it is."""
    own = code.of_run(chosen, values)
    if own is not None:
        context.ui.say(f"code       {own.describe().removeprefix('code of ')}, sha256 {own.sha256[:12]}")
        for remark in own.remarks():
            context.ui.warn(remark)
        needs = requirements.of_code(own, values)
        if needs is not None:
            context.ui.say(f"packages   {needs.file}{', and the project itself' if needs.project else ''}")
    return own


def _data(
    context: CommandContext, reference: str | None, chosen: Recipe, settings: StackSettings, cloud: Cloud, values: Values
) -> data.Data:
    if reference is None or not reference.startswith("s3://"):
        return data.inspect(reference, chosen, values=values)
    from trainyard.runs.planning.bucketdata import resolver

    return data.inspect(reference, chosen, resolver(context, settings.store), values)
