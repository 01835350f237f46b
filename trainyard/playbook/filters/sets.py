"""Filters for sets, numbers, chance, and what is chosen of several values."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jinja2
from jinja2.filters import do_unique

from trainyard.yamltags import Octal

_UNITS = ("", "K", "M", "G", "T", "P", "E", "Z", "Y")
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _bool(value: object) -> bool:
    text = str(value).lower() if isinstance(value, (str, int)) else ""
    return text in _YES or (isinstance(value, float) and value == 1)


def _default(value: Any, other: Any = "", boolean: bool = False) -> Any:
    return other if isinstance(value, jinja2.Undefined) or (boolean and not value) else value


def _mandatory(value: Any, msg: str | None = None) -> Any:
    if isinstance(value, jinja2.Undefined):
        raise ValueError(msg or f"'{value._undefined_name}' must be values")
    return value


def _ternary(value: Any, yes: Any, no: Any, none: Any = None) -> Any:
    return none if value is None and none is not None else yes if value else no


def _without_doubles(items: Iterable[Any]) -> list[Any]:
    hits: list[Any] = []
    for item in items:
        if item not in hits:
            hits.append(item)
    return hits


@jinja2.pass_environment
def _unique(env: jinja2.Environment, items: Any, case_sensitive: bool | None = None, attribute: Any = None) -> list[Any]:
    hits = list(items)
    if not attribute and not all(isinstance(item, Hashable) for item in hits):
        return _without_doubles(hits)
    return list(do_unique(env, hits, bool(case_sensitive), attribute))


def _union(one: Any, other: Any) -> list[Any]:
    return _without_doubles([*one, *other])


def _intersect(one: Any, other: Any) -> list[Any]:
    return _without_doubles(item for item in one if item in other)


def _difference(one: Any, other: Any) -> list[Any]:
    return _without_doubles(item for item in one if item not in other)


def _symmetric_difference(one: Any, other: Any) -> list[Any]:
    return _difference(one, other) + _difference(other, one)


def _random(end: Any, start: int | None = None, step: int | None = None, seed: Any = None) -> Any:
    chance = random.SystemRandom() if seed is None else random.Random(seed)
    if isinstance(end, int):
        return chance.randrange(start or 0, end, step or 1)
    return chance.choice(end)


def _shuffle(items: Any, seed: Any = None) -> list[Any]:
    mixed = list(items)
    (random.Random(seed) if seed else random.SystemRandom()).shuffle(mixed)
    return mixed


def _log(value: Any, base: float = math.e) -> float:
    return math.log10(value) if base == 10 else math.log(value, base)


def _root(value: Any, base: float = 2) -> float:
    return math.sqrt(value) if base == 2 else math.pow(value, 1.0 / base)


def _human_readable(size: Any, isbits: bool = False, unit: str | None = None) -> str:
    number, word = float(size), "bits" if isbits else "Bytes"
    power = max((i for i in range(len(_UNITS)) if number >= 1 << 10 * i), default=0)
    if unit is not None:
        power = _UNITS.index("" if unit.upper() == "B" else unit.upper())
    return f"{number / (1 << 10 * power):.2f} {_UNITS[power] + word[0] if power else word}"


def _human_to_bytes(text: Any, default_unit: str | None = None, isbits: bool = False) -> int:
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)(?:\s*([A-Za-z]+))?\s*", str(text))
    if match is None:
        raise ValueError(f"human_to_bytes: '{text}' is no size like 10MB")
    unit = match[2] or default_unit or ""
    small, long = ("b", "bit") if isbits else ("B", "byte")
    prefix = "" if unit in (small, "B", "b") or unit.lower() == long else unit[:1].upper()
    if prefix not in _UNITS or (len(unit) > 1 and unit[1:] != small and unit.lower() not in _words(prefix, long)):
        raise ValueError(f"human_to_bytes: '{text}' has a unit that is none: write it like 10M{small}")
    return round(float(match[1]) * (1 << 10 * _UNITS.index(prefix)))


def _words(prefix: str, long: str) -> tuple[str, ...]:
    names = {"K": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta", "E": "exa", "Z": "zetta", "Y": "yotta", "": ""}
    return (names[prefix] + long,)


def _type_debug(value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        return "UndefinedMarker"
    return "int" if isinstance(value, Octal) else "dict" if isinstance(value, dict) else type(value).__name__


FILTERS: dict[str, Callable[..., Any]] = { "bool": _bool, "combinations": itertools.combinations, "d": _default,
    "default": _default, "difference": _difference, "human_readable": _human_readable, "human_to_bytes": _human_to_bytes,
    "intersect": _intersect, "log": _log, "mandatory": _mandatory, "permutations": itertools.permutations, "pow": math.pow,
    "product": itertools.product, "random": _random, "root": _root, "shuffle": _shuffle,
    "symmetric_difference": _symmetric_difference, "ternary": _ternary, "type_debug": _type_debug, "union": _union,
    "unique": _unique, "zip": zip, "zip_longest": itertools.zip_longest,
}  # fmt: skip
