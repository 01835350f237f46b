"""A training that starts from a finished run's adapter (a recipe's variable of type ``run``): which one, and whether it fits."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.errors import UserError
from trainyard.recipes import basemodel
from trainyard.recipes.contract import Recipe
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import StartedFrom
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.storage.adapters import find_adapter

_SHAPE = {"r": "lora_rank", "lora_alpha": "lora_alpha"}
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


def _refuse_other_shape(name: str, run: str, config: Mapping[str, object], values: Values) -> None:
    base, mine = config.get("base_model_name_or_path"), str(values.get("base_model"))
    mine = mine.rstrip("/").rpartition("/")[2] if basemodel.is_path(mine) else mine
    if base != mine:
        raise UserError(f"{name} {run}: its adapter is one of base model {base}, not of {mine}", hint=f"Say --set base_model={base}")
    for theirs, ours in _SHAPE.items():
        if theirs in config and config[theirs] != values.get(ours):
            raise UserError(
                f"{name} {run}: its adapter has {ours} {config[theirs]}, not {values.get(ours)}", hint=f"Say --set {ours}={config[theirs]}"
            )
