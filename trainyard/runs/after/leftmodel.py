"""What a finished run has left as a model, and the programs that take it on this machine: fetched, proven, with the recipe's packages."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainyard.errors import TrainyardError, UserError
from trainyard.recipes import venvs
from trainyard.recipes.basemodel import MADE
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.runs.context import CommandContext
from trainyard.runs.verbs import copies
from trainyard.runs.verbs.fetch import fetch
from trainyard.runs.verbs.past import seen
from trainyard.storage.manifest import ResultKey

_LEAVE_MODELS = ("lora", "merge")
_TOLD = (
    "PATH", "HOME", "LANG", "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "OMP_NUM_THREADS",
)  # fmt: skip
"""What a program is told of the surroundings: no key of a cloud or a store."""
NO_MEMORY = 137
"""Exit code of such a program that was killed for want of memory, or says so; another is that of ServiceSilent."""


class ServiceSilent(TrainyardError):
    """A service that others run cannot be reached from here."""

    exit_code = 69


@dataclass(frozen=True, slots=True)
class LeftModel:
    """The model of a run: an adapter of ``base``, or whole."""

    key: ResultKey
    base: str
    stack: str

    def is_base_nowhere(self, folder: Path) -> bool:
        """Tell whether its base was made for its training and is not among its files."""
        return self.base in MADE and not (folder / "base").is_dir()


def left_by(context: CommandContext, reference: str, stack: str | None, what: Literal["asked", "served", "compared"]) -> LeftModel:
    """Return the model of a run. Raises UserError for a run that is nowhere, and for one that leaves none."""
    with seen(context, reference, stack) as attempt:
        record, key = attempt.record, attempt.key
    if record.recipe not in _LEAVE_MODELS:
        raise UserError(f"{key} is a run of recipe {record.recipe}: only what recipes {' and '.join(_LEAVE_MODELS)} leave can be {what}")
    return LeftModel(key, str(record.values["base_model"]), stack or record.environment)


def fetched(context: CommandContext, model: LeftModel, stack: str | None) -> Path:
    """Return the folder with a model, fetched once, every file proven; raises what fetch() does."""
    folder = copies.used(context.places, model.key)
    fetch(context, stack, str(model.key), folder)
    return folder


@dataclass(frozen=True, slots=True)
class ModelProgram:
    """A program of a recipe, ready to be started here."""

    argv: list[str]
    env: Mapping[str, str]


def program_of(context: CommandContext, name: str, script: str) -> ModelProgram:
    """Return a recipe's program with the environment of its lock, made where it is not there."""
    recipe = load_recipe(context.places.root, name)
    environment = venvs.ensure(recipe.locks["cpu"], context.places, context.ui.say, imports=recipe.imports)
    env = {word: context.env[word] for word in _TOLD if word in context.env}
    env |= {"PYTHONWARNINGS": "ignore", "PYTHONPATH": _modules(recipe), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return ModelProgram([str(environment / "bin" / "python"), str(recipe.folder / script)], env)


def check(code: int, model: LeftModel, done: Literal["asked", "served"]) -> None:
    """Raise what a program's exit code means, its own words being said by now."""
    what = f"{model.key} could not be {done}"
    if code == ServiceSilent.exit_code:
        raise ServiceSilent(f"{what}: the Hugging Face Hub does not answer; why stands above", hint="HF_ENDPOINT names a mirror.")
    if code in (NO_MEMORY, -9):
        raise UserError(
            f"{what}: this machine has not the memory for it",
            hint=f"On a pod that has: invoke serve-model {model.key} --stack {model.stack}",
        )
    if code:
        raise UserError(f"{what}: the program ended with code {code}; why stands above")


def run(program: ModelProgram, order: bytes, model: LeftModel) -> bytes:
    """Return what a program answers to an order on its stdin; raises what check() does."""
    # In a group of its own: Ctrl-C is told here, and the program is ended without a word.
    done = subprocess.run(program.argv, env=dict(program.env), input=order, stdout=subprocess.PIPE, check=False, process_group=0)
    check(done.returncode, model, "asked")
    return done.stdout


def _modules(recipe: Recipe) -> str:
    """Return where the modules of a recipe lie that it shares with others."""
    return os.pathsep.join(dict.fromkeys(str((recipe.folder / name).resolve().parent) for name in recipe.files))
