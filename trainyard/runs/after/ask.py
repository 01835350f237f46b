"""Ask the result of a run a question, on this machine: fetched and proven, with the packages that its recipe's lock pins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from trainyard.errors import UserError
from trainyard.recipes import venvs
from trainyard.recipes.contract import load_recipe
from trainyard.runs.after.merge import RECIPE
from trainyard.runs.context import CommandContext
from trainyard.runs.verbs.fetch import fetch
from trainyard.runs.verbs.past import seen

_TOLD = (
    "PATH", "HOME", "LANG", "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE",
)  # fmt: skip
"""What the program is told of the surroundings: no key of a cloud or a store."""


def ask(context: CommandContext, reference: str, question: str, stack: str | None, tokens: int) -> str:
    """Return what the model of a finished run answers. Raises UserError for a run that leaves none, and what fetch() does."""
    with seen(context, reference, stack) as attempt:
        record, key = attempt.record, attempt.key
    if record.recipe not in ("lora", RECIPE):
        raise UserError(f"{key} is a run of recipe {record.recipe}: only what recipes lora and {RECIPE} leave can be asked")
    folder = context.places.home / "asked" / key.user / key.run / str(key.attempt)
    fetch(context, stack, str(key), folder)
    recipe = load_recipe(context.places.root, RECIPE)
    environment = venvs.ensure(recipe.locks["cpu"], context.places, context.ui.say, imports=recipe.imports)
    env = {name: context.env[name] for name in _TOLD if name in context.env} | {"PYTHONWARNINGS": "ignore"}
    base = str(record.values["base_model"])
    argv: list[str | Path] = [environment / "bin" / "python", recipe.folder / "ask.py", folder, base, question, str(tokens)]
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sys.stderr, check=False)
    if done.returncode:
        raise UserError(f"{key} could not be asked: the program ended with code {done.returncode}; why stands above")
    return done.stdout.decode("utf-8", "replace").rstrip("\n")
