"""Read a ``--config`` file, YAML or JSON, into its settings with their places; groups of settings are opened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.jsontext import parse_json
from trainyard.reading import display
from trainyard.recipes.contract import Recipe
from trainyard.yamlfile import Map, Node, load_map, parse

RECIPE = "recipe"
"""Key by which a config file names the recipe that it is for; no variable may be called so."""


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """A recipe's variables as a file holds them: the mapping, the folder that relative paths in it begin at, what messages call it."""

    document: Map
    base: Path
    name: str


def opened(config: Path | ConfigDocument, recipe: Recipe) -> ConfigDocument:
    """Return the document of a config file, of which paths are relative to its own folder; see read().

    A file that is not here may be one that the recipe brings along, as ``configs/small.yaml``.
    """
    if not isinstance(config, Path):
        return config
    brought = recipe.folder / config
    path = brought if not config.exists() and not config.is_absolute() and brought.is_file() else config
    return ConfigDocument(read(path), path.parent, path.name)


def settings(document: Map, recipe: Recipe, group: str = "") -> Iterator[tuple[str, Node, Location | None, Location | None]]:
    """Yield (name, value, place of the name, place of the value).

    What a group like ``lora: {rank: 4}`` holds counts as if it stood alone; ``model: {...}`` is one, too.
    """
    for key, node in document.items():
        name, variable = group + key, recipe.variable(group + key)
        if isinstance(node, Map) and node and (variable is None or variable.kind == "model") and key not in recipe.elsewhere:
            yield from settings(node, recipe, "needs." if key == "needs" else "")
        else:
            yield name, node, document.where(key), document.where(key, value=True)


def recipe_named_in(path: Path) -> str | None:
    """Return the recipe that a config file names by the key ``recipe``, None where it names none. Raises UserError as read() does."""
    document = read(path)
    name = document.get(RECIPE)
    if name is not None and not isinstance(name, str):
        raise UserError(f"'{RECIPE}' is the name of a recipe, not {display(name)}", where=document.where(RECIPE, value=True))
    return name


def read(path: Path) -> Map:
    """Return the document of a config file. Raises UserError with its place for what is no YAML or JSON."""
    if path.suffix.lower() != ".json":
        return load_map(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        plain = parse_json(text)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1] if text.strip() else None
        raise UserError(f"not valid JSON: {error.msg}", where=Location(str(path), error.lineno, error.colno, line)) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    # JSON is read a second time as YAML for the places; a raw tab in valid JSON is always blank space.
    document = parse(text.replace("\t", " "), str(path))
    if not isinstance(document, Map):
        raise UserError('expected {"name": value, ...} at the top level', where=Location(str(path), 1))
    _overlay(document, plain)
    return document


def _overlay(document: Map, plain: Mapping[str, Node]) -> None:
    """Put JSON's own values into what was read for the places."""
    for key, value in plain.items():
        inner = document.get(key)
        if isinstance(inner, Map) and isinstance(value, dict):
            _overlay(inner, value)
        elif key in document:
            document[key] = value
