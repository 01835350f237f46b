"""Typed inputs and outputs of resources: dataclass fields with their documentation, and the way from wire values to them.

A field says for itself whether a change of it replaces the resource, whether it is secret and whether a
change of it counts at all; schema, Check and Diff read the same fields.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from trainyard.nearest import suggest
from trainyard.provider.values import UNKNOWN, Properties, Tree, UnknownValue, unseal
from trainyard.reading import SAID, Kind, flaw, is_of
from trainyard.settings.table import SETTINGS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")

_REQUIRED = dataclasses.MISSING


@dataclass(frozen=True, slots=True)
class CheckFailure:
    """One wrong property, as Check reports it."""

    property: str
    reason: str


@dataclass(frozen=True, slots=True)
class Property:
    """What one field of a resource is."""

    name: str
    kind: type
    """``str``, ``int``, ``float``, ``bool``, ``list`` (of text), ``dict`` (of text) or ``object`` (a list of anything)."""
    doc: str
    required: bool
    default: object
    secret: bool
    replaces: bool
    ignored: bool
    plain: bool


def prop(
    doc: str, default: object = _REQUIRED, *, secret: bool = False, replaces: bool = False, ignored: bool = False, plain: bool = False
) -> typing.Any:
    """Declare a field, as dataclasses.field() does.

    ``replaces``: a change replaces; ``ignored``: a change is no change; ``plain``: never the output of another resource.
    """
    metadata = {"doc": doc, "secret": secret, "replaces": replaces, "ignored": ignored, "plain": plain}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    if default is _REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@cache
def properties(shape: type[DataclassInstance]) -> tuple[Property, ...]:
    """Return the properties that a dataclass declares."""
    hints = typing.get_type_hints(shape)
    return tuple(_property(field, hints[field.name]) for field in dataclasses.fields(shape))


def problems(shape: type[DataclassInstance], inputs: Mapping[str, Tree]) -> list[CheckFailure]:
    """Return what is wrong with some inputs: unknown names, missing ones, wrong types. Unknown values pass."""
    known = {item.name: item for item in properties(shape)}
    failures = [CheckFailure(key, f"unknown property '{key}'{suggest(key, known)}") for key in inputs if key not in known]
    for item in known.values():
        value = unseal(inputs.get(item.name))
        if value is None:
            if item.required:
                failures.append(CheckFailure(item.name, f"'{item.name}' is required"))
        elif not isinstance(value, UnknownValue) and (wrong := _mismatch(item, value)):
            failures.append(CheckFailure(item.name, f"'{item.name}' must be {wrong}"))
    return failures


def out_of_range(shape: type[DataclassInstance], inputs: Mapping[str, Tree]) -> list[CheckFailure]:
    """Return which numbers and lists are none that the setting of the same name could be; nothing else is judged."""
    failures = []
    for item in properties(shape):
        setting, value = SETTINGS.get(item.name), unseal(inputs.get(item.name))
        judged = tuple(part for part in value if isinstance(part, str)) if isinstance(value, list) else value
        if setting is not None and isinstance(judged, (int, float, tuple)) and (wrong := flaw(setting.shape, judged)):
            failures.append(CheckFailure(item.name, f"'{item.name}' {wrong}"))
    return failures


def normal(shape: type[DataclassInstance], inputs: Mapping[str, Tree]) -> Properties:
    """Return every property without secret wrapping and with defaults filled in, so that two sets can be compared."""
    return {item.name: _normal_value(item, inputs) for item in properties(shape)}


def parse(shape: type[T], inputs: Mapping[str, Tree]) -> T:
    """Return the typed inputs. All of them must be known and right (see problems)."""
    wrong = problems(shape, inputs)
    if wrong:
        raise ValueError("; ".join(item.reason for item in wrong))
    values = normal(shape, inputs)
    unknown = [key for key, value in values.items() if isinstance(value, UnknownValue)]
    if unknown:
        raise ValueError(f"not known yet: {', '.join(unknown)}")
    return shape(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _property(field: dataclasses.Field[object], hint: object) -> Property:
    meta = field.metadata
    required, default = False, field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif field.default is dataclasses.MISSING:
        required, default = True, None
    return Property(
        field.name, _kind(hint), meta["doc"], required, default, meta["secret"], meta["replaces"], meta["ignored"], meta["plain"]
    )


def _kind(hint: object) -> type:
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    origin = typing.get_origin(hint)
    if origin is tuple:
        return list if typing.get_args(hint)[0] is str else object
    if origin is Mapping:
        return dict
    for simple in (str, int, float, bool):
        if hint is simple:
            return simple
    raise TypeError(f"no property type for {hint!r}")


def _normal_value(item: Property, inputs: Mapping[str, Tree]) -> Tree:
    value = unseal(inputs.get(item.name))
    if value is None:
        return item.default  # type: ignore[return-value]
    if item.kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, (list, dict)) and _holds_unknown(value):
        return UNKNOWN
    return value


def _holds_unknown(value: list[Tree] | dict[str, Tree]) -> bool:
    items = value if isinstance(value, list) else list(value.values())
    return any(isinstance(item, UnknownValue) or (isinstance(item, (list, dict)) and _holds_unknown(item)) for item in items)


_KINDS: Mapping[type, Kind] = {str: "text", bool: "flag", int: "whole", float: "number", object: "list"}


def _mismatch(item: Property, value: Tree) -> str | None:
    kind = _KINDS.get(item.kind)
    if kind is not None:
        return None if is_of(kind, value) else SAID[kind]
    if item.kind is list:
        return None if isinstance(value, list) and all(isinstance(x, (str, UnknownValue)) for x in value) else "a list of texts"
    if item.kind is dict:
        return None if isinstance(value, dict) and all(isinstance(x, (str, UnknownValue)) for x in value.values()) else "a map of texts"
    return None
