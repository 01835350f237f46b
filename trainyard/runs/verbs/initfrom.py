"""A training that begins with what a finished run has left: its adapter (a recipe's variable of type ``run``), or its files as data."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.errors import NotInResult, UserError
from trainyard.pod.files import printable
from trainyard.recipes import basemodel
from trainyard.recipes.contract import Recipe
from trainyard.recipes.data import OF_RUN
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import StartedFrom
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.storage.adapters import find_adapter
from trainyard.storage.find import find
from trainyard.storage.manifest import MODEL_FOLDER
from trainyard.storage.markers import refuse_unclaimed
from trainyard.storage.seal import read_result

_SHAPE = {"r": "lora_rank", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora", "use_dora": "use_dora"}
"""What an adapter's own settings call the variables that must be as they were."""


def adapter_of(context: CommandContext, recipe: Recipe, values: Values, stack: str, user: str) -> tuple[Values, StartedFrom | None]:
    """Return the values with the exact attempt in place of the run's name, and where its adapter lies; None where none is named.

    Raises UserError, before anything is rented, for a run without a finished adapter and for one that does not fit.
    """
    name = next((variable.name for variable in recipe.variables if variable.kind == "run" and values.get(variable.name)), None)
    if name is None:
        return values, None
    reference = str(values[name])
    adapter = find_adapter(bucket_of(context, stack), reference, user)
    _refuse_other_shape(name, str(adapter.key), adapter.config, values)
    context.ui.say(f"{name:<10} {adapter.key}, its adapter")
    started = StartedFrom(run=str(adapter.key), path="model", manifest_sha256=adapter.manifest_sha256, prefix=adapter.key.prefix)
    return {**values, name: str(adapter.key)}, started


def variable_of(recipe: Recipe) -> str:
    """Return the variable of a recipe that takes another run's adapter; raises UserError where it has none."""
    name = next((variable.name for variable in recipe.variables if variable.kind == "run"), None)
    if name is None:
        raise UserError(f"recipe {recipe.name} starts from no other run: it has no variable for that", hint="Recipe lora has: init_from.")
    return name


def data_of(context: CommandContext, reference: str, stack: str, user: str) -> str:
    """Return ``run:RUN[/PATH]`` as the place in the stack's bucket where that path of the run's newest success lies.

    Raises UserError, before anything is rented, for a run that is no success.
    """
    store = bucket_of(context, stack)
    named = find(store, reference.removeprefix(OF_RUN), user=user)
    result = read_result(store, named.key)
    if result is None or result.ending is not None:
        raise UserError(f"{named.key} is no success: only what a run that succeeded has left can be taken")
    refuse_unclaimed(store, named.key, result.manifest)
    path = named.path or MODEL_FOLDER
    place, there = path.strip("/"), [entry.path for entry in result.manifest.files]
    if not any(name == place or name.startswith(f"{place}/") for name in there):
        names = ", ".join(map(printable, sorted({name.partition("/")[0] for name in there})))
        raise NotInResult(f"the result of {named.key} has no '{printable(place)}'", hint=f"It has: {names or 'no file'}.")
    context.ui.say(f"data       of {named.key}: {path}")
    return f"s3://{store.bucket}/{named.key.prefix}{path}"


def _refuse_other_shape(name: str, run: str, config: Mapping[str, object], values: Values) -> None:
    base, mine = config.get("base_model_name_or_path"), str(values.get("base_model"))
    mine = mine.rstrip("/").rpartition("/")[2] if basemodel.is_path(mine) else mine
    if base != mine:
        raise UserError(f"{name} {run}: its adapter is one of base model {base}, not of {mine}", hint=f"Say --set base_model={base}")
    for theirs, ours in _SHAPE.items():
        if theirs in config and ours in values and config[theirs] != values.get(ours):
            raise UserError(
                f"{name} {run}: its adapter has {ours} {config[theirs]}, not {values.get(ours)}", hint=f"Say --set {ours}={config[theirs]}"
            )
