"""Typed variables of a recipe: what a value must be, and how a written one becomes it.

Knows nothing of files or places: a wrong value raises ValueError whose text ends a sentence that begins with
the variable's name ("lora_rank must be a whole number, not 'x'").
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from trainyard.errors import UserError
from trainyard.reading import SAID, Shape, display, flaw, is_of, not_one_of
from trainyard.recipes.summaries import Value
from trainyard.yamlfile import Node, parse

Kind = Literal["text", "int", "float", "bool", "list", "words", "file", "rows", "script", "folder", "model", "run"]
KINDS: tuple[str, ...] = get_args(Kind)
FILES = ("file", "rows", "script")
"""Kinds whose value is a file that travels with the run."""
AUTO = "auto"
"""A value that stands for what fits best; a folder of that name is written ./auto."""
_NAMES = {
    "text": "text",
    "int": SAID["whole"],
    "float": SAID["number"],
    "bool": SAID["flag"],
    "list": "a list of words",
    "words": "a command's arguments",
    "file": "a file's path",
    "rows": "the path of a file of rows",
    "script": "a program's path",
    "folder": "a folder's path",
    "model": "a model's name or folder",
    "run": "a finished run's name",
}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Variable:
    """One declared variable. ``default`` may be an expression over the other variables: a text that begins with ``=``."""

    name: str
    kind: Kind
    default: Value = None
    required: bool = False
    optional: bool = False
    choices: tuple[Value, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    aliases: tuple[str, ...] = ()
    help: str = ""
    resume: bool = False


def convert(variable: Variable, node: Node) -> Value:
    """Return a value read from YAML or JSON as the variable's type. Raises ValueError."""
    if node is None:
        if variable.optional:
            return None
        raise ValueError(f"must be {_NAMES[variable.kind]}, not empty")
    value = _typed(variable.kind, node)
    _check_range(variable, value)
    return value


def convert_text(variable: Variable, text: str) -> Value:
    """Return a value typed on the command line as the variable's type. Raises ValueError."""
    if variable.optional and text.lower() in ("", "none", "null"):
        return None
    value = _typed(variable.kind, _from_text(variable.kind, text))
    _check_range(variable, value)
    return value


def _from_text(kind: Kind, text: str) -> Node:
    if kind in ("int", "float"):
        return _number_text(text)
    if kind == "bool":
        low = text.strip().lower()
        return True if low in _TRUE else False if low in _FALSE else text
    if kind == "list":
        inner = text.strip()
        if inner.startswith("["):
            return _bracketed(inner)
        return [word.strip() for word in inner.split(",") if word.strip()]
    return text


def _bracketed(text: str) -> Node:
    """Read a list in brackets as YAML; ``[*.bin]``, which is none, by its commas."""
    try:
        return parse(text, "value")
    except UserError:
        if not text.endswith("]") or set(text[1:-1]) & set("[]{}\"'"):
            raise ValueError(f"must be a list like [a, b], not {text!r}") from None
        return [word.strip() for word in text[1:-1].split(",") if word.strip()]


def _number_text(text: str) -> Node:
    for read in (int, float):
        try:
            return text if "_" in text else read(text)
        except ValueError:
            continue
    return text


def _typed(kind: Kind, node: Node) -> Value:
    wrong = ValueError(f"must be {_NAMES[kind]}, not {display(node)}")
    if kind == "bool":
        if isinstance(node, bool):
            return node
        raise wrong
    if kind in ("int", "float"):
        return _number(kind, node, wrong)
    if kind in ("list", "words"):
        return _words(kind, node, wrong)
    if isinstance(node, (list, dict, bool)) or node is None:
        raise wrong
    return str(node)


def _number(kind: Kind, node: Node, wrong: ValueError) -> int | float:
    if not is_of("number" if kind == "float" else "whole", node):
        raise wrong
    return float(node) if kind == "float" else int(node)  # type: ignore[arg-type]


def _words(kind: Kind, node: Node, wrong: ValueError) -> list[str]:
    if isinstance(node, str):
        if kind == "list":
            return [word.strip() for word in node.split(",") if word.strip()]
        try:
            return shlex.split(node)
        except ValueError as error:
            raise ValueError(f"cannot be split into arguments: {error}") from None
    if not isinstance(node, list) or any(isinstance(item, (list, dict)) or item is None for item in node):
        raise wrong
    return [str(item).lower() if isinstance(item, bool) else str(item) for item in node]


def _check_range(variable: Variable, value: Value) -> None:
    items: Sequence[Value] = value if isinstance(value, list) else [value]
    for item in items:
        if wrong := not_one_of(variable.choices, item):
            raise ValueError(wrong)
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be empty")
    if wrong := flaw(Shape(kind="number", least=variable.minimum, above=variable.above, most=variable.maximum), value):
        raise ValueError(wrong)
