"""What a setting is, and how a dataclass of settings becomes a table of them. Which there are stands in table.py."""

# Annotations are types here, not texts: the table is made of them, and evaluating texts would cost every start a millisecond.

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.reading import Kind, Shape

REGISTRY_LOGIN = re.compile(r"-u (\S+) -p (\S+) (\S+)")
"""The login of a registry, as `docker login` takes it, too."""


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A value that only Pulumi can read (``secure:`` in the file): it travels as it is."""

    ciphertext: str


def is_secret(value: object) -> bool:
    """Tell whether a setting's value is kept from state and snapshots: it is encrypted, or the login of a registry by its form."""
    return isinstance(value, Encrypted) or (isinstance(value, str) and REGISTRY_LOGIN.fullmatch(value.strip()) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key: what it is, what holds unless it is set, what it means and who may know it."""

    name: str
    says: str
    shape: Shape
    default: object
    unset: str
    """What holds unless it is set, in words; an empty text: nothing does."""
    unit: str
    secret: bool
    """May be a ``secure:`` value: only the program reads it."""
    travels: bool
    """Goes from the environment into each run's own stack."""
    some_clouds: bool
    """Means something only to clouds whose rows name it."""
    readers: tuple[str, ...]
    """Rooms of trainyard/ that read it."""
    since: str


def setting(
    says: str, default: object = None, *, readers: str, unset: str | None = None, unit: str = "", travels: bool = False,
    some_clouds: bool = False, since: str = "0.1", **shape: Any,
) -> Any:  # fmt: skip
    """Declare a field, as dataclasses.field() does. ``readers``: rooms, spaces between; ``shape``: see reading.Shape."""
    metadata = {
        "says": says, "unset": _words(default) if unset is None else unset, "unit": unit, "travels": travels, "some_clouds": some_clouds,
        "readers": tuple(readers.split()), "since": since, "shape": shape,
    }  # fmt: skip
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _words(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(value) if isinstance(value, (tuple, dict)) else "" if value is None else str(value)


def read_table(shape: type) -> Mapping[str, Setting]:
    """Return the settings that a dataclass declares with setting(), by name."""
    entries = (_read_field(field, field.type) for field in dataclasses.fields(shape) if field.metadata)
    return types.MappingProxyType({setting.name: setting for setting in entries})


def _read_field(field: dataclasses.Field[Any], hint: object) -> Setting:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    kind, secret = _kind(hint)
    more = dict(field.metadata)
    return Setting(name=field.name, default=default, secret=secret, **{**more, "shape": Shape(kind=kind, **more["shape"])})


def _kind(hint: object) -> tuple[Kind, bool]:
    """Return what a field's type makes of a value, and whether it may be encrypted."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    (plain,) = (part for part in parts if part not in (type(None), Encrypted))
    origin, inner = typing.get_origin(plain), typing.get_args(plain)
    if origin is tuple:
        return ("texts" if inner[0] is str else "mappings"), Encrypted in parts
    if origin is not None:
        return "mapping", Encrypted in parts
    simple: Mapping[object, Kind] = {str: "text", float: "number", int: "whole", bool: "flag"}
    return simple[plain], Encrypted in parts
