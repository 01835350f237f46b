"""One value as its type: what a Shape says it must be, read from YAML or from the texts that Pulumi makes of YAML.

A number, flag, list or map may arrive as a text (``pulumi config set`` and ``pulumi.Config`` know nothing else), and a
plain number where a text is wanted is that text: an id of digits, a version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from trainyard.errors import UserError
from trainyard.nearest import suggest

Kind = Literal["text", "number", "whole", "flag", "texts", "mapping", "mappings"]
SAID: Mapping[Kind, str] = {
    "text": "a text",
    "number": "a number",
    "whole": "a whole number",
    "flag": "true or false",
    "texts": "a text or a list of texts",
    "mapping": "a map of names and values",
    "mappings": "a list of 'name: value' blocks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a value must be."""

    kind: Kind
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    pattern: str | None = None
    """Regular expression that a text, each text of a list, or each name of a map must match as a whole; compiled when it is needed."""
    looks_like: str = ""
    """An example of what the pattern means, for messages."""


def read(shape: Shape, value: object, name: str) -> object:
    """Return a value as its type: str, float or int, int, bool, tuple of str, dict of str, tuple of dicts.

    ``name`` is what messages call it. Raises UserError, without a place, for what the shape does not allow.
    """
    typed = _READERS[shape.kind](value)
    if typed is None:
        raise UserError(f"{name} must be {SAID[shape.kind]}, not {shown(value)}")
    _check_choice(shape, typed, name)
    _check_range(shape, typed, name)
    if shape.pattern is not None:
        for part in typed if isinstance(typed, (tuple, dict)) else [typed]:
            if not re.fullmatch(shape.pattern, str(part)):
                raise UserError(f"{name} must look like {shape.looks_like}, not '{part}'")
    return typed


def shown(value: object) -> str:
    """Return a value as a message shows it: short, and a text in quotes."""
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def _check_choice(shape: Shape, value: object, name: str) -> None:
    if shape.choices and value not in shape.choices:
        near = suggest(str(value), shape.choices)
        raise UserError(f"{name} must be one of {', '.join(shape.choices)}, not '{value}'{near}")


def _check_range(shape: Shape, value: object, name: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    if shape.least is not None and value < shape.least:
        raise UserError(f"{name} must be at least {shape.least:g}, not {value:g}")
    if shape.above is not None and value <= shape.above:
        raise UserError(f"{name} must be more than {shape.above:g}, not {value:g}")
    if shape.most is not None and value > shape.most:
        raise UserError(f"{name} must be at most {shape.most:g}, not {value:g}")


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value) or None


def _number(value: object) -> int | float | None:
    if isinstance(value, str):
        try:
            value = float(value) if not re.fullmatch(r"[-+]?\d+", value) else int(value)
        except ValueError:
            return None
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
    return value if good else None  # type: ignore[return-value]


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and float(number).is_integer() else None


def _flag(value: object) -> bool | None:
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else value if isinstance(value, bool) else None


def _texts(value: object) -> tuple[str, ...] | None:
    listed = _from_json(value, "[")
    items = [_text(item) for item in (listed if isinstance(listed, list) else [listed])]
    texts = tuple(item for item in items if item is not None)
    return texts if len(texts) == len(items) else None


def _mapping(value: object) -> dict[str, str] | None:
    mapping = _from_json(value, "{")
    if not isinstance(mapping, dict):
        return None
    texts = {str(name): _entry(item) for name, item in mapping.items()}
    kept = {name: item for name, item in texts.items() if item is not None}
    return kept if len(kept) == len(texts) else None


def _entry(value: object) -> str | None:
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, (bool, int, float)) else None


def _mappings(value: object) -> tuple[Mapping[str, object], ...] | None:
    blocks = _from_json(value, "[")
    return tuple(blocks) if isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks) else None


def _from_json(value: object, opening: str) -> object:
    """Return what a text of JSON holds; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith(opening):
        try:
            return json.loads(value)
        except ValueError:
            return None
    return value


_READERS: Mapping[Kind, Callable[[object], object]] = {
    "text": _text, "number": _number, "whole": _whole, "flag": _flag, "texts": _texts, "mapping": _mapping, "mappings": _mappings,
}  # fmt: skip
