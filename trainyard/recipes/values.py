"""The values of a run: defaults < stack settings < ``--config`` file < ``--set``, typed as the recipe declares.

Everything wrong is said here, with its place, before anything is created.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.recipes.contract import Lazy, Recipe
from trainyard.recipes.expressions import evaluate, fill
from trainyard.recipes.variables import Value, Variable, convert, convert_text
from trainyard.yamlfile import Map, Node, load_map, parse, suggest

Values = dict[str, Value]
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Given:
    """A value with the place it comes from."""

    value: Value
    where: Location | None
    prefix: str = ""


def resolve(
    recipe: Recipe,
    config_file: Path | None = None,
    sets: Sequence[str] = (),
    stack_settings: Mapping[str, object] | None = None,
) -> Values:
    """Return the values of all variables of a recipe.

    ``stack_settings`` may hold other keys too; only the recipe's variables are taken from them. Raises
    UserError for unknown names, wrong types, values out of range and combinations that the recipe refuses.
    """
    given: dict[str, _Given] = {}
    for key, node in (stack_settings or {}).items():
        variable = recipe.variable(key)
        if variable:
            where = stack_settings.where(key, value=True) if isinstance(stack_settings, Map) else None
            given[variable.name] = _Given(_converted(variable, key, _node(node), where, Path.cwd()), where)
    if config_file is not None:
        given.update(_from_file(recipe, config_file))
    for text in sets:
        name, value = _from_set(recipe, text)
        given[name] = value
    values = _with_defaults(recipe, given)
    _refuse(recipe, values, given)
    return values


def needs_of(recipe: Recipe, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return what the run needs (vram_gb, disk_gb, ram_gb, gpus, cuda, python) for these values."""
    return {key: _plain(_lazy(value, values, recipe)) for key, value in recipe.needs.items()}


def artefacts_of(recipe: Recipe, values: Mapping[str, Value]) -> list[str]:
    """Return the patterns under OUTPUT_DIR of which each must match a file for the training to count as done."""
    found = _lazy(recipe.verdict.artefacts, values, recipe)
    return [str(item) for item in found] if isinstance(found, (list, tuple)) else []


def lock_for(recipe: Recipe, values: Mapping[str, Value], *, gpu: bool | None = None) -> Path | None:
    """Return the lock of the machine's kind; ``gpu=None`` asks this machine. None when the recipe needs no packages."""
    kind = str(values.get("device"))
    if kind not in ("cpu", "gpu"):
        has_gpu = shutil.which("nvidia-smi") is not None if gpu is None else gpu
        kind = "gpu" if has_gpu else "cpu"
    return recipe.locks.get(kind) or next(iter(recipe.locks.values()), None)


def locked_packages(lock: Path | None) -> dict[str, str]:
    """Return name -> version of a lock file (the last line of a package that has several)."""
    return dict(_PIN.findall(lock.read_text(encoding="utf-8"))) if lock else {}


def _from_file(recipe: Recipe, path: Path) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    document = _read_config(path)
    for key, node in document.items():
        variable = recipe.variable(key)
        if variable is None:
            raise _unknown(recipe, key, document.where(key))
        where = document.where(key, value=True)
        if variable.name in given:
            raise UserError(f"'{key}' and an earlier line both set {variable.name}", where=document.where(key))
        given[variable.name] = _Given(_converted(variable, key, node, where, path.parent), where)
    return given


def _read_config(path: Path) -> Map:
    if path.suffix.lower() != ".json":
        return load_map(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        plain = json.loads(text)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1] if text.strip() else None
        raise UserError(f"not valid JSON: {error.msg}", where=Location(str(path), error.lineno, error.colno, line)) from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    # JSON is read a second time as YAML for the places; a raw tab in valid JSON is always blank space.
    document = parse(text.replace("\t", " "), str(path))
    if not isinstance(document, Map):
        raise UserError('expected {"name": value, ...} at the top level', where=Location(str(path), 1))
    for key, value in plain.items():
        if key in document:
            document[key] = value
    return document


def _from_set(recipe: Recipe, text: str) -> tuple[str, _Given]:
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UserError(f"--set {text}: write --set name=value")
    variable = recipe.variable(name)
    if variable is None:
        raise _unknown(recipe, name, None, prefix=f"--set {text}: ")
    try:
        converted = convert_text(variable, value)
    except ValueError as error:
        raise UserError(f"--set {text}: {name} {error}", hint=_help(variable)) from None
    return variable.name, _Given(_path(variable, name, converted, None, Path.cwd()), None, f"--set {text}: ")


def _converted(variable: Variable, key: str, node: Node, where: Location | None, base: Path) -> Value:
    try:
        return _path(variable, key, convert(variable, node), where, base)
    except ValueError as error:
        raise UserError(f"{key} {error}", where=where, hint=_help(variable)) from None


def _path(variable: Variable, key: str, value: Value, where: Location | None, base: Path) -> Value:
    if variable.kind != "file" or value is None:
        return value
    path = (base / Path(str(value)).expanduser()).resolve()
    if not path.is_file():
        raise UserError(f"{key}: there is no file '{value}'", where=where)
    return str(path)


def _with_defaults(recipe: Recipe, given: Mapping[str, _Given]) -> Values:
    values: Values = {name: item.value for name, item in given.items()}
    missing = [variable for variable in recipe.variables if variable.name not in values]
    required = next((variable for variable in missing if variable.required), None)
    if required:
        raise UserError(f"recipe {recipe.name} needs {required.name}: {required.help}", hint=f"Give it with --set {required.name}=...")
    # Plain defaults first: an expression may name a variable that is declared further down.
    for variable in sorted(missing, key=lambda each: _is_expression(each.default)):
        default = variable.default
        values[variable.name] = convert(variable, _node(evaluate(str(default), values))) if _is_expression(default) else default
    return {variable.name: values[variable.name] for variable in recipe.variables}


def _is_expression(value: object) -> bool:
    return isinstance(value, str) and value.startswith("=")


def _refuse(recipe: Recipe, values: Values, given: Mapping[str, _Given]) -> None:
    kinds = [str(values["device"])] if values.get("device") in recipe.locks else list(recipe.locks)
    stacks = [locked_packages(recipe.locks[kind]) for kind in kinds] or [{}]
    for refusal in recipe.refusals:
        # Refused only when no stack that may serve the run could do it; train.py looks again on the machine.
        if not all(evaluate(refusal.when, values, packages=stack, where=refusal.where) for stack in stacks):
            continue
        item = given.get(refusal.variable)
        raise UserError((item.prefix if item else "") + fill(refusal.message, values, stacks[0]), where=item.where if item else None)


def _unknown(recipe: Recipe, name: str, where: Location | None, prefix: str = "") -> UserError:
    return UserError(
        f"{prefix}recipe {recipe.name} has no variable '{name}'{suggest(name, recipe.names)}",
        where=where,
        hint="It knows: " + ", ".join(variable.name for variable in recipe.variables) + ".",
    )


def _help(variable: Variable) -> str | None:
    return f"{variable.name}: {variable.help}" if variable.help else None


def _lazy(value: Lazy, values: Mapping[str, Value], recipe: Recipe) -> object:
    if _is_expression(value):
        return evaluate(str(value), values, packages=locked_packages(lock_for(recipe, values, gpu=False)))
    return value


def _plain(value: object) -> Value:
    return value if isinstance(value, (str, int, float, bool)) or value is None else _words(value)


def _words(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, Iterable) else [str(value)]


def _node(value: object) -> Node:
    return value if isinstance(value, (str, int, float, bool)) or value is None else list(_words(value))
