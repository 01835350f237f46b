"""What the controller can say of a run's base model before anything is rented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.recipes import basemodel
from trainyard.recipes.contract import Recipe
from trainyard.recipes.fit.base import factor_of, look
from trainyard.recipes.fit.work import told_by
from trainyard.recipes.summaries import Value
from trainyard.recipes.values import NEEDS, needs_of


def refuse(values: Mapping[str, Value], *, on_this_machine: bool, volume: bool) -> None:
    """Raise UserError for a base that is a folder and is not there, or cannot be trained with these settings.

    A cloud's pods have no folder of this machine, but those of a network ``volume``; what lies there only the pod can read.
    """
    name = values.get("base_model")
    if not isinstance(name, str) or not basemodel.is_path(name):
        return
    folder = Path(name)
    if not on_this_machine:
        if volume and folder.is_absolute() and not folder.is_dir():
            return
        raise UserError(
            f"base_model {name} is a folder of this machine, and the pods of this stack do not have it",
            hint="Name a model of the Hugging Face Hub, or put the folder on the stack's network volume and say its path there.",
        )
    top = "model_index.json" if "model_family" in values else "config.json"
    if not (folder / top).is_file():
        what = f"is no model: it holds no {top}" if folder.is_dir() else "is no folder of this machine"
        raise UserError(f"base_model {name} {what}", hint="Name a folder that save_pretrained wrote, or a model of the Hugging Face Hub.")
    base = look(name)
    problem = basemodel.problem(base.config, base.layers, values)
    if problem:
        raise UserError(problem)


def needs_lines(recipe: Recipe, values: Mapping[str, Value]) -> Iterator[str]:
    """Yield what a run needs and where that is from; nothing for recipes without a base."""
    name = values.get("base_model")
    if not isinstance(name, str) or name in basemodel.MADE:
        return
    base, needs = look(name), needs_of(recipe, values)
    sizes = f"{needs['vram_gb']:g} GB of GPU memory, {needs['disk_gb']:g} GB of disk"
    better = "--set needs.vram_gb=... and needs.disk_gb=... say better"
    if base.parameters is None:
        yield f"the size of {name} is not known here: {sizes} are assumed; {better}"
    elif any(key.startswith(NEEDS) for key in values):
        yield f"{sizes}, as you say"
    else:
        yield f"{sizes}, reckoned from {base.parameters / 1e9:.3g} billion parameters ({base.source}){_measured(name, values)}; {better}"


def _measured(name: str, values: Mapping[str, Value]) -> str:
    measured = factor_of(name, values)
    if measured is None:
        return ""
    return f" and {told_by(measured.runs)} of it"
