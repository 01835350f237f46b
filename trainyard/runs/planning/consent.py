"""What leaves this machine with a run: the user's own files, and the variables that the settings name for the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainyard.clouds.protocol import Cloud
from trainyard.config import secret
from trainyard.errors import RefusedError, UserError
from trainyard.recipes.code import Code
from trainyard.recipes.contract import Recipe
from trainyard.recipes.data import Data
from trainyard.recipes.summaries import Values
from trainyard.recipes.variables import FILES
from trainyard.runs.ui import Ui
from trainyard.secret import Secret
from trainyard.settings.table import StackSettings


def own_files(asked: str | None, data: Data, recipe: Recipe, values: Values, code: Code | None = None) -> list[str]:
    """Return the user's own files that a run sends, as a person names them; what a recipe ships (nothing was asked for) is none."""
    files = [data.describe()] if asked is not None and data.kind in ("file", "folder") else []
    named = (values.get(variable.name) for variable in recipe.variables if variable.kind in FILES)
    return files + [Path(str(value)).name for value in named if value] + ([code.describe()] if code else [])


def ask(ui: Ui, stack: str, cloud: Cloud, consent: str, files: Sequence[str], *, yes: bool, by_bucket: bool = False) -> None:
    """Let a run's files leave this machine only as its settings say; raises RefusedError before anything is rented.

    ``by_bucket``: they lie in the stack's bucket, too, if it has one, for who goes on with the run.
    """
    if cloud.name == "local" or cloud.simulated:
        return  # its pods are on this machine
    if consent == "never":
        raise RefusedError(
            f"upload_consent is 'never', and the pods of stack '{stack}' are on other machines; nothing was sent",
            hint="Train on this machine (--stack local), or change trainyard:upload_consent in the stack's settings.",
        )
    if not files or consent == "always" or yes:
        return
    what = ", ".join(files)
    where = f"{cloud.name} and the bucket of stack '{stack}'" if by_bucket else cloud.name
    if not ui.agreed(f"Send {what} to {where}? [y/N] "):
        raise RefusedError(
            f"nobody has agreed that {what} may be sent to {cloud.name}; nothing was sent, nothing was rented",
            hint="Say --yes, or set 'trainyard:upload_consent: always' in the stack's settings.",
        )


def pod_secrets(settings: StackSettings, env: Mapping[str, str]) -> list[str]:
    """Return the variables that the job gets; raises UserError for one that is not set. What may not be sent no settings name."""
    names = list(dict.fromkeys(settings.pod_secrets))
    secret_values(names, env)
    return names


def secret_values(names: Sequence[str], env: Mapping[str, str]) -> dict[str, Secret]:
    """Return the values for the job's environment, references followed; raises UserError, by name, for one that is not set."""
    values = {}
    for name in names:
        value = secret(env, name)
        if value is None:
            raise UserError(f"pod_secrets: {name} is not set", hint="Put it into .env or export it; or take it out of the settings.")
        values[name] = value
    return values
