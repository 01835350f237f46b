"""JSON into dataclasses, strictly: what reads a record must not fail over it half way.

A name that is not known is left out, so that a record of another version can be read; a value of another kind than its
field's is refused with its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import typing
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def read(shape: type[T], data: object, at: str = "") -> T:
    """Return the dataclass that JSON holds; raises ValueError naming the field that is missing or of another kind."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{at or 'it'} is {data!r:.60}, not an object")
    kinds, values = _kinds(shape), {}
    for field in dataclasses.fields(shape):
        place = f"{at}.{field.name}".lstrip(".")
        if field.name in data:
            values[field.name] = _value(kinds[field.name], data[field.name], place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"'{place}' is missing")
    return shape(**values)


@functools.cache
def _kinds(shape: type[DataclassInstance]) -> dict[str, Any]:
    return typing.get_type_hints(shape)


def _one_of(kinds: list[Any], value: object, at: str) -> object:
    for kind in kinds[:-1]:
        with contextlib.suppress(ValueError):
            return _value(kind, value, at)
    return _value(kinds[-1], value, at)


def _value(kind: Any, value: object, at: str) -> object:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):
        if value is None and type(None) in parts:
            return None
        return _one_of([part for part in parts if part is not type(None)], value, at)
    if dataclasses.is_dataclass(kind):
        return read(typing.cast("type[DataclassInstance]", kind), value, at)
    if kind is Any or kind is object:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if origin is typing.Literal:
        fits = value in parts
    elif origin is list and isinstance(value, list):
        return [_value(parts[0], item, f"{at}[{number}]") for number, item in enumerate(value)]
    elif origin is tuple and isinstance(value, list):
        if parts[-1] is Ellipsis:
            return tuple(_value(parts[0], item, f"{at}[{number}]") for number, item in enumerate(value))
        fits = len(parts) == len(value)
        if fits:
            return tuple(_value(part, item, at) for part, item in zip(parts, value, strict=True))
    elif origin is dict and isinstance(value, dict):
        return {key: _value(parts[1], item, f"{at}.{key}") for key, item in value.items()}
    else:
        # A flag is no number, and a number no flag.
        fits = isinstance(kind, type) and isinstance(value, kind) and (isinstance(value, bool) is (kind is bool))
    if not fits:
        raise ValueError(f"'{at}' is {value!r:.60}")
    return value
