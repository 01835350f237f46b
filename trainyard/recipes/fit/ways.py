"""What would make a training fit into less GPU memory: each way is reckoned through before it is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trainyard.errors import UserError
from trainyard.recipes.contract import Recipe
from trainyard.recipes.summaries import Value, Values
from trainyard.recipes.values import needs_of, refuse

_ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
_SHORTEST, _LEAST_RANK = 256, 4


@dataclass(frozen=True, slots=True)
class FittingChange:
    """Other values, and the GPU memory that the training needs with them (GB)."""

    changes: Values
    vram_gb: float

    def __str__(self) -> str:
        """Return it as one types it."""
        return " ".join(f"--set {name}={_typed(value)}" for name, value in self.changes.items())


def ways(recipe: Recipe, values: Values, limit_gb: float) -> list[FittingChange]:
    """Return ways to stay within so many GB: each change alone that is enough; where none is, the fewest of them together.

    None that the recipe refuses, and none that was not reckoned to fit. Empty: nothing that is known here is enough.
    """
    alone = [way for changes in _changes(recipe, values) if (way := _tried(recipe, values, changes)) and way.vram_gb <= limit_gb]
    if alone:
        return _gentlest(alone)
    together: Values = {}
    for changes in _changes(recipe, values):
        way = _tried(recipe, values, together | changes)
        before = _tried(recipe, values, together)
        if way is None or (before is not None and way.vram_gb >= before.vram_gb):
            continue
        together |= changes
        if way.vram_gb <= limit_gb:
            return [way]
    return []


def _changes(recipe: Recipe, values: Values) -> Iterator[Values]:
    """Yield single changes that save memory, those that change what is learnt least first; of one kind the smaller step first."""
    known = {variable.name for variable in recipe.variables}
    for changes in (*_without_loss(values), *_with_loss(values)):
        if changes.keys() <= known and any(values.get(name) != value for name, value in changes.items()):
            yield changes


def _without_loss(values: Values) -> Iterator[Values]:
    yield {"gradient_checkpointing": True}
    batch, steps = values.get("per_device_train_batch_size"), values.get("gradient_accumulation_steps")
    if isinstance(batch, int) and isinstance(steps, int) and batch > 1:
        yield {"per_device_train_batch_size": 1, "gradient_accumulation_steps": batch * steps}
    yield {"load_in_4bit": True}
    yield {"load_in_4bit": True, "backend": "unsloth"}
    yield {"optim": "adamw_8bit"}


def _with_loss(values: Values) -> Iterator[Values]:
    if values.get("method") == "full":
        yield {"method": "lora"}
    yield {"target_modules": list(_ATTENTION)}
    for name, least in (("lora_rank", _LEAST_RANK), ("max_seq_length", _SHORTEST)):
        value = values.get(name)
        while isinstance(value, int) and value // 2 >= least:
            value //= 2
            yield {name: value}


def _tried(recipe: Recipe, values: Values, changes: Values) -> FittingChange | None:
    """Return the way with what it needs; None for what the recipe refuses."""
    changed = {**values, **changes}
    try:
        refuse(recipe, changed)
        needed = needs_of(recipe, changed).get("vram_gb")
    except UserError:
        return None
    return FittingChange(changes, float(needed)) if isinstance(needed, int | float) else None


def _gentlest(enough: list[FittingChange]) -> list[FittingChange]:
    """Return one way for each set of variables: the first, which is the smallest step."""
    best: dict[frozenset[str], FittingChange] = {}
    for way in enough:
        if not any(names < way.changes.keys() for names in best):
            best.setdefault(frozenset(way.changes), way)
    return list(best.values())


def _typed(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
