"""What the next training of an earlier attempt's shape has of it: values, data; whether it goes on from it or runs it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainyard.recipes.bundled import data_of, settings_in
from trainyard.recipes.contract import Recipe
from trainyard.recipes.data import Data
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import NEEDS, resolve, sets_with
from trainyard.recipes.variables import Variable
from trainyard.runs.records.record import RunRecord
from trainyard.storage.bucket import listing
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import DATA


def values_again(
    recipe: Recipe, base: RunRecord, sets: Sequence[str], words: Sequence[str] | None, bundle: Path, device: str | None
) -> Values:  # fmt: skip
    """Return an attempt's values with what a person changes; files are those of its bundle, ``device`` is another stack's kind of machine.

    Raises UserError as resolve() does.
    """
    before = settings_in(recipe, base.values, bundle)
    before |= {"device": device} if device and "device" in before else {}
    by_hand = [f"{name}={value}" for name, value in base.values.items() if name.startswith(NEEDS)]
    values = resolve(recipe, None, sets_with(recipe, [*by_hand, *sets], words), before)
    for variable in recipe.variables:
        if variable.kind == "folder" and variable not in named_by(recipe, sets, words):
            values[variable.name] = base.values.get(variable.name)
    return values


def named_by(recipe: Recipe, sets: Sequence[str], words: Sequence[str] | None) -> list[Variable]:
    """Return the variables that a person names."""
    names = [*(text.partition("=")[0].strip() for text in sets), *(["command"] if words else [])]
    return [variable for variable in map(recipe.variable, names) if variable is not None]


def own_data(base: RunRecord, recipe: Recipe) -> str | None:
    """Return a person's own data, about which consent is asked: a recipe's sample is none."""
    of_recipe = recipe.sample and base.data.reference and Path(base.data.reference).name == Path(recipe.sample).name
    return None if of_recipe else base.data.reference


def data_again(base: RunRecord, recipe: Recipe, store: StoreSettings | None, bound: str) -> Data:
    """Return an attempt's data with the bytes that they had, from here or as a bucket has them; ``bound`` says why no others do.

    Raises UserError naming a file that is nowhere.
    """

    def in_bucket(sha256: str) -> bool:
        return store is not None and any(item.key == f"{DATA}{sha256}" for item in listing(store, f"{DATA}{sha256}"))

    return data_of(base.data, recipe, in_bucket, bound)
