"""How far a checkpoint is, and how far a training may go: known before a pod is rented, where the recipe says where to look."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.jsontext import parse_json
from trainyard.recipes.contract import Recipe
from trainyard.recipes.summaries import Values
from trainyard.storage.checkpoints import Checkpoint, content_of
from trainyard.storage.client import StoreSettings


@dataclass(frozen=True, slots=True)
class StepsLeft:
    """What ends a training, and what of it a checkpoint has done: steps, epochs or what else the variable counts."""

    variable: str
    done: float
    limit: float


def left(recipe: Recipe, values: Values, checkpoint: Checkpoint, store: StoreSettings | None) -> StepsLeft | None:
    """Return how far a checkpoint is of how far it may go, None where the recipe or the checkpoint does not tell."""
    progress = recipe.checkpoint_progress
    limits = ((name, values.get(name)) for name in progress.fields) if progress else iter(())
    variable, limit = next(((name, value) for name, value in limits if isinstance(value, int | float) and value > 0), ("", 0.0))
    body = content_of(checkpoint, progress.file, store) if progress and variable else None
    if progress is None or body is None:
        return None
    try:
        state = parse_json(body)
    except ValueError:
        return None
    done = state.get(progress.fields[variable]) if isinstance(state, dict) else None
    return StepsLeft(variable, float(done), float(limit)) if isinstance(done, int | float) else None
