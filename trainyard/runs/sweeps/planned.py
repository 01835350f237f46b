"""A sweep before anything is made: what a person asked for, read, judged and priced as a whole."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.clouds.protocol import Cloud
from trainyard.errors import UserError
from trainyard.recipes import configfile
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.since import LAST
from trainyard.recipes.values import needs_of
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import shape
from trainyard.runs.sweeps import tuning
from trainyard.runs.sweeps.book import SweepDefinition
from trainyard.runs.sweeps.objective import read_objective
from trainyard.runs.sweeps.sampling import MOST_TRIALS, Parameters, Sampler, drawn, grid, refuse_count
from trainyard.runs.sweeps.space import Dimension, filled, fillings, read_dimensions
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.prepare import PricedRun
from trainyard.runs.verbs.train import TrainRequest, foresee, values_of
from trainyard.settings.table import StackSettings

SAMPLERS: tuple[Sampler, ...] = ("grid", "random", "optuna")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest:
    """What a person asked ``--sweep`` for; ``train``: what each trial is asked for beside that."""

    train: TrainRequest
    sweep: Sequence[str]
    sampler: str | None = None
    trials: int | None = None
    seed: int = 0
    objective: str = "loss"
    prune: bool = False
    parallel: int | None = None
    max_trials: int = MOST_TRIALS
    priority: int = 0
    """Of its trials in the queue."""
    after: Sequence[str] = ()
    """Runs (user/label) that must have succeeded before its trials begin."""
    not_before: float | None = None
    """Epoch seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSweep:
    """A sweep that can be begun. Money is in dollars."""

    definition: SweepDefinition
    train: TrainRequest
    """What each trial is asked for, with its part of the budget."""
    first: PricedRun
    most: float
    """What all trials together cost at most."""


def plan_sweep(context: CommandContext, request: SweepRequest) -> PlannedSweep:
    """Read and judge all of it, every trial's values, too; say what it will cost. Nothing is made.

    Raises UserError, RefusedError or NoCapacity.
    """
    train, recipe = request.train, load_recipe(context.places.root, request.train.recipe)
    _refuse_counts(request)
    texts = [*(train.words or ()), *train.sets]
    dimensions = read_dimensions(recipe, request.sweep, others=texts, most=request.max_trials)
    sampler = _sampler(request)
    read_objective(request.objective)
    if sampler == "optuna" or request.prune:
        tuning.require()
    trials, first = _trials(request, sampler, dimensions)
    train = train if train.budget is None else replace(train, budget=train.budget / trials)
    priced, most = _priced(context, train, recipe, dimensions, first, trials)
    definition = SweepDefinition(
        stack=train.stack, recipe=recipe.name, dimensions=dimensions, sampler=sampler, trials=trials, seed=request.seed,
        objective=request.objective.strip(), prune=request.prune, parallel=request.parallel or (1 if sampler == "optuna" else None),
        budget=request.train.budget, priority=request.priority, sets=varied(train.sets, dimensions),
        words=tuple(train.words) if train.words and varied(train.words, dimensions) else None, request=_digest(train, priced),
    )  # fmt: skip
    return PlannedSweep(definition=definition, train=train, first=priced, most=most)


def all_parameters(definition: SweepDefinition) -> list[Parameters]:
    """Return what the trials are tried with, in order; none of them where each follows from those before it."""
    if definition.sampler == "grid":
        return grid(definition.dimensions, definition.trials)
    if definition.sampler == "random":
        return drawn(definition.dimensions, definition.trials, definition.seed, definition.trials)
    return []


def varied(texts: Sequence[str], dimensions: Sequence[Dimension]) -> tuple[str, ...]:
    """Return those texts in which a ``{NAME}`` is filled in for each trial."""
    values = fillings(dimensions, {dimension.name: "" for dimension in dimensions})
    return tuple(text for text in texts if filled(text, values) != text)


def trial_request(train: TrainRequest, dimensions: Sequence[Dimension], parameters: Parameters) -> TrainRequest:
    """Return what ``train`` is asked for with a trial's parameters: variables are set, ``{NAME}`` is filled in."""
    values = fillings(dimensions, parameters)
    sets = [filled(text, values) for text in train.sets]
    sets += [f"{dimension.name}={parameters[dimension.name]}" for dimension in dimensions if dimension.is_variable]
    words = None if train.words is None else [filled(word, values) for word in train.words]
    return replace(train, sets=sets, words=words)


def _refuse_counts(request: SweepRequest) -> None:
    for name, said in (("--init-from", request.train.init_from), ("--since", request.train.since)):
        if said == LAST:
            raise UserError(f"{name} last is another run once a trial has succeeded", hint="Name the run: invoke runs shows them.")
    for name, number in (("--parallel", request.parallel), ("--max-trials", request.max_trials)):
        if number is not None and number < 1:
            raise UserError(f"{name} {number}: it is 1 or more")


def _sampler(request: SweepRequest) -> Sampler:
    if request.sampler is None:
        return "grid" if request.trials is None else "random"
    sampler = next((name for name in SAMPLERS if name == request.sampler), None)
    if sampler is None:
        raise UserError(f"--sampler {request.sampler}: there is none of that name", hint=f"Samplers: {', '.join(SAMPLERS)}.")
    if sampler == "grid" and request.trials is not None:
        raise UserError(f"--trials {request.trials}: a grid has as many trials as there are combinations", hint="Say --sampler random.")
    if sampler != "grid" and request.trials is None:
        raise UserError(f"--sampler {sampler} needs to know how many trials it may make", hint="Say how many: --trials 20")
    return sampler


def _trials(request: SweepRequest, sampler: Sampler, dimensions: Sequence[Dimension]) -> tuple[int, list[Parameters]]:
    """Return how many trials there will be, and those that are known by now."""
    if sampler == "grid":
        known = grid(dimensions, request.max_trials)
        return len(known), known
    trials = request.trials or 0
    if sampler == "random":
        return trials, drawn(dimensions, trials, request.seed, request.max_trials)
    refuse_count(dimensions, trials, request.max_trials)
    return trials, [tuning.ask(dimensions, read_objective(request.objective), request.seed, [])]


def _priced(
    context: CommandContext, train: TrainRequest, recipe: Recipe, dimensions: Sequence[Dimension], known: Sequence[Parameters], trials: int
) -> tuple[PricedRun, float]:
    """Judge each trial that is known, price those that need another pod; return the first one and what all cost at most."""
    cloud = context.cloud(train.stack)
    settings, _ = shape.from_environment(context.settings(train.stack), context.env, cloud.name)
    quiet = CommandContext(context.places, context.env, Ui(stream=io.StringIO()))
    prices: dict[str, float] = {}
    first: PricedRun | None = None
    most = 0.0
    for number, parameters in enumerate(known, 1):
        asked = trial_request(train, dimensions, parameters)
        needs = _needs(asked, recipe, settings, cloud, number, parameters)
        if needs not in prices:
            priced = foresee(context if first is None else quiet, asked)
            first, prices[needs] = first or priced, priced.estimate.most
        most += prices[needs]
    assert first is not None
    return first, most / len(known) * trials


def _needs(
    asked: TrainRequest, recipe: Recipe, settings: StackSettings, cloud: Cloud, number: int, parameters: Parameters
) -> str:  # fmt: skip
    """Return what of a trial shapes its pod; raises UserError, naming the trial, where its values cannot be."""
    try:
        values = values_of(asked, recipe, settings, cloud)
    except UserError as error:
        tried = ", ".join(f"{name}={value}" for name, value in parameters.items())
        raise UserError(f"trial {number} ({tried}): {error.message}", where=error.where, hint=error.hint) from None
    return json.dumps(needs_of(recipe, values), sort_keys=True, default=str)


def _digest(train: TrainRequest, first: PricedRun) -> str:
    """Return what tells programs and data of two sweeps apart."""
    config = configfile.opened(train.config, first.plan.recipe).document if train.config is not None else None
    data = first.plan.data.summary()
    facts = {
        "init_from": train.init_from, "since": train.since, "values": train.values.document if train.values else None,
        "data": [data.reference, [[file.src, file.sha256, file.etag] for file in data.files]], "config": config,
        "sets": list(train.sets), "words": None if train.words is None else list(train.words), "hours": train.hours,
        "resume": train.resume, "deliver": train.deliver, "code": first.plan.code.sha256 if first.plan.code else None,
        "files": {name: _sha256(value) for name, value in first.plan.values.items() if isinstance(value, str) and value.startswith("/")},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _sha256(path: str) -> str | None:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else None
