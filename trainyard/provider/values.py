"""Property values as they travel between engine and provider: Struct on the wire, plain Python here.

Secrets and unknown values keep their wrapping, so that what Check and Create answer is as secret as what
came in. Assets and output values are never announced to the engine and therefore refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.struct_pb2 import ListValue, Struct, Value

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"
_UNKNOWN_TOKENS: Final = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # any type, and strings
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)


class UnknownValue:
    """A value that only exists after another resource was created."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = UnknownValue()


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret value: clear inside, shown as ``***``, encrypted in state."""

    value: Tree

    def __repr__(self) -> str:
        return "***"


Tree = str | int | float | bool | None | UnknownValue | SecretValue | list["Tree"] | dict[str, "Tree"]
Properties = dict[str, Tree]


def from_wire(struct: Struct) -> Properties:
    """Return the properties of a Struct; whole numbers become int."""
    return {key: _from_value(value) for key, value in struct.fields.items()}


def to_wire(properties: Mapping[str, Tree]) -> Struct:
    """Return the Struct of some properties."""
    struct = Struct()
    for key, value in properties.items():
        struct.fields[key].CopyFrom(_to_value(value))
    return struct


def unseal(value: Tree) -> Tree:
    """Return the value without any secret wrapping, at every depth."""
    if isinstance(value, SecretValue):
        return unseal(value.value)
    if isinstance(value, list):
        return [unseal(item) for item in value]
    if isinstance(value, dict):
        return {key: unseal(item) for key, item in value.items()}
    return value


def has_unknown(values: Iterable[Tree]) -> bool:
    """Tell whether any of the values is unknown, at any depth."""
    return any(_is_unknown(value) for value in values)


def _is_unknown(value: Tree) -> bool:
    if isinstance(value, SecretValue):
        return _is_unknown(value.value)
    if isinstance(value, list):
        return has_unknown(value)
    if isinstance(value, dict):
        return has_unknown(value.values())
    return isinstance(value, UnknownValue)


def _from_value(value: Value) -> Tree:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        text = value.string_value
        return UNKNOWN if text in _UNKNOWN_TOKENS else text
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return bool(value.bool_value)
    if kind == "list_value":
        return [_from_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return _from_struct(value.struct_value)
    return None


def _from_struct(struct: Struct) -> Tree:
    if SIGNATURE not in struct.fields:
        return from_wire(struct)
    if struct.fields[SIGNATURE].string_value != _SECRET:
        raise ValueError("assets, archives and resource references are not used by this provider")
    return SecretValue(_from_value(struct.fields["value"]))


def _to_value(value: Tree) -> Value:
    if value is None:
        return Value(null_value=0)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, (int, float)):
        return Value(number_value=value)
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, UnknownValue):
        return Value(string_value="04da6b54-80e4-46f7-96ec-b56ff0331ba9")
    if isinstance(value, SecretValue):
        return Value(struct_value=to_wire({SIGNATURE: _SECRET, "value": value.value}))
    if isinstance(value, list):
        return Value(list_value=ListValue(values=[_to_value(item) for item in value]))
    return Value(struct_value=to_wire(value))
