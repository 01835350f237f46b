"""Property values on the wire (google.protobuf.Struct) and in Python: one reading for the engine and for providers.

In Python a value is None, bool, int, float, str, list, dict, UNKNOWN or SecretValue. A number is an int when it is whole:
JSON then reads as the CLI writes it. Knows no state and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trainyard.engine.kinds import (
    ASSET,
    REFERENCE,
    SECRET,
    SIGNATURE,
    UNKNOWN,
    UNKNOWN_TEXT,
    UNKNOWN_TEXTS,
    Properties,
    SecretValue,
    UnknownValue,
)

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct, Value

_WHOLE = 2**53


def read_struct(struct: Struct, signed: Callable[[Properties], Any]) -> Properties:
    """Return the properties of a Struct; ``signed`` says what a dict that carries a signature stands for."""
    return {key: _read(value, signed) for key, value in struct.fields.items()}


def _read(value: Value, signed: Callable[[Properties], Any]) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return UNKNOWN if value.string_value in UNKNOWN_TEXTS else value.string_value
    if kind == "number_value":
        return whole(value.number_value)
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_read(item, signed) for item in value.list_value.values]
    if kind == "struct_value":
        fields = read_struct(value.struct_value, signed)
        return signed(fields) if fields.get(SIGNATURE) is not None else fields
    return None


def write_struct(properties: Mapping[str, Any] | None, *, secrets: bool = True, references: bool = True, contents: bool = True) -> Struct:
    """Return the Struct of some properties.

    Receivers that do not take secrets or references get the clear value, and the id or urn; without ``contents``
    assets go as their hash only.
    """
    from google.protobuf.struct_pb2 import Struct

    struct = Struct()
    for key, value in (properties or {}).items():
        _write(struct.fields[key], value, secrets, references, contents)
    return struct


def _write(target: Value, value: Any, secrets: bool, references: bool, contents: bool) -> None:
    if value is None:
        target.null_value = 0
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, (int, float)):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, UnknownValue):
        target.string_value = UNKNOWN_TEXT
    elif isinstance(value, list):
        target.list_value.SetInParent()
        for item in value:
            _write(target.list_value.values.add(), item, secrets, references, contents)
    elif isinstance(value, SecretValue):
        _write_sealed(target, value, secrets, references, contents)
    else:
        _write_dict(target, value, secrets, references, contents)


def _write_sealed(target: Value, value: SecretValue, secrets: bool, references: bool, contents: bool) -> None:
    if not secrets:
        return _write(target, value.value, secrets, references, contents)
    if isinstance(value.value, UnknownValue):  # as the CLI: an unknown secret goes as a plain unknown inside the secret
        target.struct_value.SetInParent()
    target.struct_value.fields[SIGNATURE].string_value = SECRET
    _write(target.struct_value.fields["value"], value.value, secrets, references, contents)


def _write_dict(target: Value, value: Properties, secrets: bool, references: bool, contents: bool) -> None:
    signature = value.get(SIGNATURE)
    if signature == REFERENCE and not references:
        identity = value.get("id")
        return _write(target, value.get("urn") if identity is None else identity, secrets, references, contents)
    if signature == ASSET and not contents:
        value = {SIGNATURE: ASSET, "hash": value.get("hash", "")}
    target.struct_value.SetInParent()
    for key, item in value.items():
        _write(target.struct_value.fields[key], item, secrets, references, contents)


def whole(number: float) -> int | float:
    """Return an int where the number is whole and exact."""
    return int(number) if number.is_integer() and abs(number) < _WHOLE else number


def plain(value: Any) -> Any:
    """Return the value with its secrets in clear."""
    if isinstance(value, SecretValue):
        return plain(value.value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def has_unknown(value: Any) -> bool:
    """Say whether any part of the value is unknown."""
    if isinstance(value, SecretValue):
        return has_unknown(value.value)
    if isinstance(value, list):
        return any(map(has_unknown, value))
    if isinstance(value, dict):
        return any(map(has_unknown, value.values()))
    return isinstance(value, UnknownValue)
