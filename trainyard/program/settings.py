"""The stack's settings as Pulumi hands them to the program: texts, made values by the table that the verbs use, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.provider.typed import wrong_setting
from trainyard.reading import read
from trainyard.settings.flaws import flaw
from trainyard.settings.setting import Setting, is_secret
from trainyard.settings.table import RUN_SETTINGS, SETTINGS, RunKeys, StackSettings, build

NAMESPACE = "trainyard"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run's own stack is made of."""

    pod: StackSettings
    keys: RunKeys


def is_run() -> bool:
    """Tell whether the settings are those of a run's own stack."""
    return "run" in _texts()


def environment_settings(stack: str) -> StackSettings:
    """Read the settings of an environment. Raises RunError naming key and file."""
    source = f"Pulumi.{stack}.yaml"
    return _checked(source, stack, _values(source, SETTINGS))


def run_settings(stack: str) -> RunSettings:
    """Read the settings of a run's own stack. Raises RunError naming key and file."""
    source = f"the settings of run stack '{stack}'"
    values = _values(source, RUN_SETTINGS)
    own = {field.name: values.pop(field.name) for field in fields(RunKeys) if field.name in values}
    optional = {field.name for field in fields(RunKeys) if field.default is None}
    for name in ("hours", *(field.name for field in fields(RunKeys))):
        if name not in values and name not in own and name not in optional:
            raise _error(source, name, "is missing")
    return RunSettings(_checked(source, stack.partition(".")[0], values), RunKeys(**own))  # type: ignore[arg-type]


def keep_secret(name: str, value: Any) -> Any:
    """Return a setting's value, as a secret in Pulumi's state where its file holds it encrypted, or its form tells."""
    return pulumi.Output.secret(value) if is_config_secret(f"{NAMESPACE}:{name}") or is_secret(value) else value


def _checked(source: str, stack: str, values: Mapping[str, object]) -> StackSettings:
    settings = build(values, stack)
    wrong = flaw(settings, stack)
    if wrong is not None:
        raise _error(source, wrong.name, wrong.message)
    return settings


def _values(source: str, table: Mapping[str, Setting]) -> dict[str, object]:
    """Return the namespace's keys as their types; an empty text is an absent one."""
    values: dict[str, object] = {}
    for name, text in _texts().items():
        if name not in table:
            raise _error(source, name, f"is not known{suggest(name, table)}")
        try:
            values |= {name: read(table[name].shape, text, f"{NAMESPACE}:{name}")} if text else {}
        except UserError as error:
            raise wrong_setting(f"{source}: {error.message}") from None
    return values


def _texts() -> dict[str, str]:
    split = ((full.partition(":"), text) for full, text in {**get_config_env(), **CONFIG.get()}.items())
    return {name: text for (namespace, _, name), text in split if namespace == NAMESPACE}


def _error(source: str, name: str, message: str) -> pulumi.RunError:
    return wrong_setting(f"{source}: {NAMESPACE}:{name} {message}")
