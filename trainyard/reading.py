"""One value as its type: what a Shape says it must be, read from YAML or from the texts that others make of YAML.

Settings, variables of recipes, arguments of playbooks, rules of buckets and inputs of the provider are judged here, in
one set of sentences; ``fields`` does the same for a mapping, with the place of each key. read() takes texts, too, for
a number, flag, list or map (``pulumi config set``, ``pulumi.Config`` and templates know nothing else), and a plain
number where a text is wanted is that text: an id of digits, a version. is_of() takes nothing but what stands there.

pydantic would say the same with file:line:col put together afterwards from its paths, and 0.1 s later at each start.
Standard library only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.nearest import suggest

Kind = Literal["text", "number", "whole", "flag", "texts", "mapping", "mappings", "list", "map"]
SAID: Mapping[Kind, str] = {
    "text": "a text",
    "number": "a number",
    "whole": "a whole number",
    "flag": "true or false",
    "texts": "a text or a list of texts",
    "mapping": "a map of names and values",
    "mappings": "a list of 'name: value' blocks",
    "list": "a list",
    "map": "a map",
}

NUMERAL = r"[-+]?([0-9]{1,400}(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?"
"""A number that stands in quotes."""
HUGE = 1e15
"""No number is as large: it would not be told as it was written."""
_SHOWN_BITS = 200
"""Of a whole number that a message shows, about 60 digits: of thousands Python does not even make a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a value must be."""

    kind: Kind
    choices: Sequence[str] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    pattern: str | None = None
    """Regular expression that a text, each text of a list, or each name of a map must match as a whole; compiled when it is needed."""
    looks_like: str = ""
    """An example of what the pattern means, for messages."""
    empty: bool = False
    """A text may be empty."""
    short: str = ""
    """Key of a block that a plain text in the list of blocks stands for."""


def read(shape: Shape, value: object, name: str) -> object:
    """Return a value as its type: str, float or int, int, bool, tuple of str, dict of str, tuple of dicts, list, dict.

    ``name`` is what messages call it. Raises UserError, without a place, for what the shape does not allow.
    """
    if shape.short and isinstance(listed := _from_json(value, "["), list):
        value = [{shape.short: item} if isinstance(item, (str, int, float)) and not isinstance(item, bool) else item for item in listed]
    typed = _READERS[shape.kind](value)
    if typed is None or (typed == "" and not shape.empty):
        raise UserError(f"{name} must be {SAID[shape.kind]}, not {display(value)}")
    if wrong := flaw(shape, typed):
        raise UserError(f"{name} {wrong}")
    return typed


def is_of(kind: Kind, value: object) -> bool:
    """Tell whether a value is of a plain kind (text, number, whole, flag, list, map) as it stands."""
    if kind not in ("number", "whole"):
        return isinstance(value, _PLAIN[kind])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value) and (kind == "number" or float(value).is_integer())
    except OverflowError:
        return False  # a whole number of more than 308 digits


def flaw(shape: Shape, typed: object) -> str | None:
    """Return what choices, range and pattern say against a typed value, as the end of a sentence; None when they say nothing."""
    if wrong := not_one_of(shape.choices, typed):
        return wrong
    if isinstance(typed, (int, float)) and not isinstance(typed, bool):
        if shape.least is not None and typed < shape.least:
            return f"must be at least {shape.least:g}, not {typed:g}"
        if shape.above is not None and typed <= shape.above:
            return f"must be more than {shape.above:g}, not {typed:g}"
        if shape.most is not None and typed > shape.most:
            return f"must be at most {shape.most:g}, not {typed:g}"
    if shape.pattern is not None:
        parts = typed if isinstance(typed, (tuple, dict)) else [typed]
        odd = next((part for part in parts if not re.fullmatch(shape.pattern, str(part))), None)
        return None if odd is None else f"must look like {shape.looks_like}, not {display(odd)}"
    return None


def not_one_of(choices: Sequence[object], typed: object) -> str | None:
    """Return what is said against a value that is none of the choices; None when it is one, or all may be."""
    if not choices or typed in choices:
        return None
    listed = [str(choice) for choice in choices]
    return f"must be one of {', '.join(listed)}, not {display(typed)}{suggest(str(typed), listed)}"


def display(value: object) -> str:
    """Return a value as a message shows it: short, and a text in quotes."""
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return "a number of more than 60 digits"
    return "empty" if value is None else json.dumps(value)


_PLAIN: Mapping[str, type] = {"text": str, "flag": bool, "list": list, "map": Mapping}


def _text(value: object) -> str | None:
    whole_or_text = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value) if whole_or_text or _number(value) is not None else None


def _number(value: object) -> int | float | None:
    if isinstance(value, str):
        if not re.fullmatch(NUMERAL, value):
            return None
        value = int(value) if value.lstrip("+-").isdigit() else float(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < HUGE else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and float(number).is_integer() else None


def _flag(value: object) -> bool | None:
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else value if isinstance(value, bool) else None


def _texts(value: object) -> tuple[str, ...] | None:
    listed = _from_json(value, "[")
    items = [_text(item) for item in (listed if isinstance(listed, list) else [listed])]
    texts = tuple(item for item in items if item)
    return texts if len(texts) == len(items) else None


def _mapping(value: object) -> dict[str, str] | None:
    mapping = _from_json(value, "{")
    if not isinstance(mapping, dict):
        return None
    texts = {str(name): _entry(item) for name, item in mapping.items()}
    kept = {name: item for name, item in texts.items() if item is not None}
    return kept if len(kept) == len(texts) else None


def _entry(value: object) -> str | None:
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, bool) or _number(value) is not None else None


def _mappings(value: object) -> tuple[Mapping[str, object], ...] | None:
    blocks = _from_json(value, "[")
    return tuple(blocks) if isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks) else None


def _from_json(value: object, opening: str) -> object:
    """Return what a text of JSON holds; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith(opening):
        try:
            return parse_json(value)
        except ValueError:
            return None
    return value


_READERS: Mapping[Kind, Callable[[object], object]] = {
    "text": _text, "number": _number, "whole": _whole, "flag": _flag, "texts": _texts, "mapping": _mapping, "mappings": _mappings,
    "list": lambda value: value if isinstance(value, list) else None, "map": lambda value: value if isinstance(value, Mapping) else None,
}  # fmt: skip
