"""Property values as the provider has them: the engine's codec, with what this provider never announces refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainyard.engine.codec import has_unknown, plain, read_struct, write_struct
from trainyard.engine.kinds import SECRET, SIGNATURE, UNKNOWN, SecretValue, UnknownValue

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct

__all__ = ["SIGNATURE", "UNKNOWN", "Properties", "SecretValue", "Tree", "UnknownValue", "from_wire", "has_unknown", "to_wire", "unseal"]

Tree = str | int | float | bool | None | UnknownValue | SecretValue | list["Tree"] | dict[str, "Tree"]
Properties = dict[str, Tree]


def from_wire(struct: Struct) -> Properties:
    """Return the properties of a Struct. Raises ValueError for what this provider never takes: assets, archives, references."""
    return read_struct(struct, _signed)


def to_wire(properties: Mapping[str, Tree]) -> Struct:
    """Return the Struct of some properties."""
    return write_struct(properties)


def unseal(value: Tree) -> Tree:
    """Return the value without any secret wrapping, at every depth."""
    clear: Tree = plain(value)
    return clear


def _signed(fields: Mapping[str, Any]) -> SecretValue:
    if fields[SIGNATURE] != SECRET:
        raise ValueError("assets, archives and resource references are not used by this provider")
    return SecretValue(fields.get("value"))
