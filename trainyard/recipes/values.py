"""The values of a run: defaults < stack settings < ``--config`` file < ``--set``, typed as the recipe declares.

Everything wrong is said here, with its place, before anything is created.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import Location, UserError, together
from trainyard.nearest import suggest
from trainyard.reading import display
from trainyard.recipes import configfile, webscript
from trainyard.recipes.basemodel import is_path
from trainyard.recipes.configfile import ConfigDocument
from trainyard.recipes.contract import Lazy, OutputPattern, Recipe, recipes_that_know
from trainyard.recipes.expressions import evaluate, fill
from trainyard.recipes.fit import base as bases
from trainyard.recipes.summaries import Value, Values
from trainyard.recipes.variables import AUTO, FILES, Kind, Variable, convert, convert_text
from trainyard.textfile import expanded
from trainyard.yamlfile import Map, Node

NEEDS = "needs."
"""Begins the names by which a person says what a run needs, where the recipe's own reckoning is not wanted."""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


class _UnknownVariable(UserError):
    """A name that the recipe does not know."""


@dataclass(frozen=True, slots=True)
class _PlacedValue:
    """A value with the place it comes from."""

    value: Value
    where: Location | None
    prefix: str = ""


def resolve(
    recipe: Recipe,
    config: Path | ConfigDocument | None = None,
    sets: Sequence[str] = (),
    stack_settings: Mapping[str, object] | None = None,
    on_note: Callable[[str], None] = lambda _: None,
    more: ConfigDocument | None = None,
) -> Values:
    """Return the values of all variables of a recipe, and of the ``needs.NAME`` that a person sets by hand.

    ``stack_settings`` may hold other keys too; only the recipe's variables are taken from them. ``more`` wins over
    ``config``, and ``sets`` over both. ``on_note`` is told which keys of another tool's file say nothing here. Raises
    UserError, with all that is wrong at once, for unknown names, wrong types, values out of range and combinations that
    the recipe refuses.
    """
    placed: dict[str, _PlacedValue] = {}
    for key, node in (stack_settings or {}).items():
        variable = recipe.variable(key)
        if variable:
            where = stack_settings.where(key, value=True) if isinstance(stack_settings, Map) else None
            placed[variable.name] = _PlacedValue(_converted(variable, key, _node(node), where, Path.cwd()), where)
    wrong: list[UserError] = []
    for document in (config, more):
        if document is not None:
            placed.update(_from_file(recipe, configfile.opened(document, recipe), wrong, on_note))
    for text in sets:
        try:
            name, value = _from_set(recipe, text)
            placed[name] = value
        except UserError as error:
            wrong.append(error)
    if wrong:
        raise together(wrong, "settings")
    values = _with_defaults(recipe, placed)
    _refuse(recipe, values, placed)
    return values


def sets_with(recipe: Recipe, sets: Sequence[str], words: Sequence[str] | None) -> list[str]:
    """Return the settings with the words behind ``--`` (None: there was none) as the recipe's command. Raises UserError."""
    if words is not None and recipe.variable("command") is None:
        hint = "--recipe command runs a command of yours, with your code."
        shown = f", as in: {shlex.join(words)}" if words else ""
        raise UserError(f"recipe {recipe.name} takes no command behind --{shown}", hint=hint)
    return [*sets, *([f"command={shlex.join(words)}"] if words else [])]


def needs_of(recipe: Recipe, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return what the run needs (vram_gb, disk_gb, ram_gb, gpus, cuda, python) for these values."""
    needs = {key: _plain(_lazy(value, values, recipe)) for key, value in recipe.needs.items()}
    return needs | {name.removeprefix(NEEDS): value for name, value in values.items() if name.startswith(NEEDS)}


def python_of(recipe: Recipe) -> str:
    """Return which Python the packages of a recipe's lock are for: one version, or a range."""
    return str(recipe.needs.get("python") or ">=3.11")


def beside_of(recipe: Recipe, values: Mapping[str, Value]) -> str | None:
    """Return the lock in the recipe's folder whose packages are installed beside its environment for these values."""
    name = values[f"{NEEDS}beside"] if f"{NEEDS}beside" in values else _lazy(recipe.needs.get("beside"), values, recipe)
    if name and str(name) not in {path.name for path in recipe.folder.iterdir()}:
        raise UserError(f"recipe {recipe.name} needs the packages of {name}, but its folder has no such file")
    return str(name) if name else None


def refuse(recipe: Recipe, values: Values) -> None:
    """Raise UserError where a recipe refuses these values together."""
    _refuse(recipe, values, {})


def artefacts_of(recipe: Recipe, values: Mapping[str, Value]) -> list[str]:
    """Return the patterns under OUTPUT_DIR of which each must match a file for the training to count as done."""
    artefacts = _lazy(recipe.verdict.artefacts, values, recipe)
    return [str(item) for item in artefacts] if isinstance(artefacts, (list, tuple)) else []


def patterns_of(output: OutputPattern, recipe: Recipe, values: Mapping[str, Value]) -> list[str]:
    """Return the patterns under OUTPUT_DIR that an output of the recipe stands for."""
    pattern = _lazy(output.pattern, values, recipe)
    return [pattern] if isinstance(pattern, str) else _words(pattern)


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


def _from_file(recipe: Recipe, config: ConfigDocument, wrong: list[UserError], on_note: Callable[[str], None]) -> dict[str, _PlacedValue]:
    placed: dict[str, _PlacedValue] = {}
    idle: list[str] = []
    keys: list[str] = []
    for key, node, at, where in configfile.settings(config.document, recipe):
        if key == configfile.RECIPE:
            if node != recipe.name:
                hint = f"Say --recipe {node}, or leave the line out."
                raise UserError(f"this file is for recipe '{node}', and recipe {recipe.name} was asked for", where=where, hint=hint)
            continue
        keys.append(key)
        try:
            pairs = _meaning(recipe, key, node, at, idle)
            for name, value in pairs:
                variable = _variable(recipe, name, at)
                new = _PlacedValue(_converted(variable, name, value, where, config.base), where)
                if placed.setdefault(variable.name, new).value != new.value:
                    raise UserError(f"'{key}' and an earlier line set {variable.name} differently", where=at)
        except UserError as error:
            wrong.append(error)
    unknown = next((error for error in wrong if isinstance(error, _UnknownVariable)), None)
    if unknown and (others := recipes_that_know(recipe, keys)):
        hint = f"Recipe {' or '.join(others)} knows all names of this file: say --recipe {others[0]}, or write into it: recipe: {others[0]}"
        raise UserError(unknown.message, where=unknown.where, hint=hint)
    if idle:
        on_note(
            f"{config.name}: {', '.join(idle)} of another tool's file {'says' if len(idle) == 1 else 'say'} nothing to recipe {recipe.name}"
        )
    return placed


def _meaning(recipe: Recipe, key: str, node: Node, at: Location | None, idle: list[str]) -> list[tuple[str, Node]]:
    """Return the variables that a key sets: itself, or what it means as a key of another tool."""
    known = recipe.elsewhere.get(key)
    if known is None:
        variable = recipe.variable(key)
        if recipe.elsewhere and node in (None, {}) and (variable is None or variable.kind in ("list", "words")):
            idle.append(f"{key} (empty)")
            return []
        return [(key, node)]
    text = str(node).lower() if isinstance(node, (str, int, float, bool)) or node is None else "*"
    if node in (None, [], {}):
        text = "none"
    sets = known.values.get(text, known.values.get("*", {} if text == "none" else None))
    if sets is None:
        served = [value for value in known.values if value != "none"]
        raise UserError(
            f"{key}: {known.say}" if known.say else f"{key} is served as {' or '.join(served)} only, not {display(node)}", where=at
        )
    if not sets:
        idle.append(key)
    return list(sets.items())


def _variable(recipe: Recipe, name: str, where: Location | None, prefix: str = "") -> Variable:
    """Return the variable of a name; ``needs.NAME`` is one, too."""
    need = name.removeprefix(NEEDS)
    if name.startswith(NEEDS) and need in recipe.needs:
        kind: Kind = "float" if need.endswith("_gb") else "int" if need == "gpus" else "text"
        return Variable(name, kind, optional=True, minimum=0, help=f"what a run needs: {need}")
    variable = recipe.variable(name)
    if variable is None:
        names = [*recipe.names, *(NEEDS + each for each in recipe.needs)]
        hint = "It knows: " + ", ".join(variable.name for variable in recipe.variables) + "."
        raise _UnknownVariable(f"{prefix}recipe {recipe.name} has no variable '{name}'{suggest(name, names)}", where=where, hint=hint)
    return variable


def _from_set(recipe: Recipe, text: str) -> tuple[str, _PlacedValue]:
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UserError(f"--set {text}: write --set name=value")
    if name in recipe.elsewhere and not recipe.elsewhere[name].values:
        raise UserError(f"--set {text}: {recipe.elsewhere[name].say}")
    variable = _variable(recipe, name, None, prefix=f"--set {text}: ")
    try:
        converted = convert_text(variable, value)
    except ValueError as error:
        raise UserError(f"--set {text}: {name} {error}", hint=_help(variable)) from None
    return variable.name, _PlacedValue(_path(variable, name, converted, None, Path.cwd()), None, f"--set {text}: ")


def _converted(variable: Variable, key: str, node: Node, where: Location | None, base: Path) -> Value:
    try:
        return _path(variable, key, convert(variable, node), where, base)
    except ValueError as error:
        raise UserError(f"{key} {error}", where=where, hint=_help(variable)) from None


def _path(variable: Variable, key: str, value: Value, where: Location | None, base: Path) -> Value:
    if variable.kind == "model" and isinstance(value, str) and is_path(value) and not value.startswith("/"):
        return str((base / expanded(value)).resolve())
    if variable.kind == "folder" and isinstance(value, str) and value != AUTO:
        return None if value.lower() == "none" else str((base / expanded(value)).resolve())
    if variable.kind not in FILES or value is None:
        return value
    web = variable.kind == "script" and webscript.is_web(value)
    path = webscript.fetch_script(key, str(value)) if web else (base / expanded(str(value))).resolve()
    if not path.is_file():
        raise UserError(f"{key}: there is no file '{value}'", where=where)
    if variable.kind == "script":
        _check_script(path, key, where)
    return str(path)


def _check_script(path: Path, key: str, where: Location | None) -> None:
    """Refuse what a Windows editor left: a shell would take each line's CR for a part of its last word."""
    first, _, rest = path.read_bytes()[: 1 << 16].partition(b"\n")
    if not first and not rest:
        raise UserError(f"{key}: {path.name} is empty", where=where)
    asks = first.strip() if first.startswith(b"#!") else b""
    shell = asks.endswith(b"sh") or (not asks and path.suffix == ".sh")
    if first.endswith(b"\r") and shell:
        hint = f"Convert it: sed -i 's/\\r$//' {path.name}"
        raise UserError(f"{key}: the lines of {path.name} end in CR LF (Windows), which a shell cannot run", where=where, hint=hint)


def _with_defaults(recipe: Recipe, placed: Mapping[str, _PlacedValue]) -> Values:
    values: Values = {name: item.value for name, item in placed.items()}
    missing = [variable for variable in recipe.variables if variable.name not in values]
    required = next((variable for variable in missing if variable.required), None)
    if required:
        raise UserError(f"recipe {recipe.name} needs {required.name}: {required.help}", hint=f"Give it with --set {required.name}=...")
    # Plain defaults first: an expression may name a variable that is declared further down.
    for variable in sorted(missing, key=lambda each: _is_expression(each.default)):
        default = variable.default
        values[variable.name] = convert(variable, _node(evaluate(str(default), values))) if _is_expression(default) else default
    by_hand = {name: value for name, value in values.items() if name.startswith(NEEDS)}
    return {variable.name: values[variable.name] for variable in recipe.variables} | by_hand


def _is_expression(value: object) -> bool:
    return isinstance(value, str) and value.startswith("=")


def _refuse(recipe: Recipe, values: Values, placed: Mapping[str, _PlacedValue]) -> None:
    kinds = [str(values["device"])] if values.get("device") in recipe.locks else list(recipe.locks)
    stacks = [locked_packages(recipe.locks[kind]) for kind in kinds] or [{}]
    for refusal in recipe.refusals:
        # Refused only when no stack that may serve the run could do it; train.py looks again on the machine.
        if not all(evaluate(refusal.when, values, packages=stack, where=refusal.where) for stack in stacks):
            continue
        item = placed.get(refusal.variable)
        raise UserError((item.prefix if item else "") + fill(refusal.message, values, stacks[0]), where=item.where if item else None)


def _help(variable: Variable) -> str | None:
    return f"{variable.name}: {variable.help}" if variable.help else None


def _lazy(value: Lazy, values: Mapping[str, Value], recipe: Recipe) -> object:
    if not _is_expression(value):
        return value
    # A pod with a GPU is what needs are for; a run that asks for a CPU gets that lock in any case.
    packages = locked_packages(lock_for(recipe, values, gpu=True))
    base = values.get("base_model")
    size = bases.needs(bases.look(str(base)), values) if base else {}
    return evaluate(str(value), {**values, "size": size}, packages=packages)


def _plain(value: object) -> Value:
    return value if isinstance(value, (str, int, float, bool)) or value is None else _words(value)


def _words(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, Iterable) else [str(value)]


def _node(value: object) -> Node:
    return value if isinstance(value, (str, int, float, bool)) or value is None else list(_words(value))
