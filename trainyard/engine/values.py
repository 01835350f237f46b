"""Property values: the wire (google.protobuf.Struct), Python, and the state file.

In Python a value is None, bool, int, float, str, list, dict, UNKNOWN or EngineSecret. Assets and resource
references stay dicts that carry their signature. A number is an int when it is whole: JSON then reads as the
CLI writes it. Clear texts of all secrets that pass are collected, so that messages can be cleaned of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.engine.assets import with_hash
from trainyard.engine.hook import EngineError, RefusedError
from trainyard.engine.kinds import (
    ARCHIVE,
    ASSET,
    OUTPUT,
    REFERENCE,
    SECRET,
    SIGNATURE,
    UNKNOWN,
    UNKNOWN_TEXT,
    EngineSecret,
    Properties,
    UnknownMarker,
)

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct, Value

    from trainyard.engine.secrets import Crypter

_UNKNOWN_TEXTS = {
    UNKNOWN_TEXT,
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "030794c1-ac77-496b-92df-f27374a8bd58",
    "e48ece36-62e2-4504-bad9-02848725956a",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
}
_WHOLE = 2**53


class Wire:
    """Reads and writes Structs; remembers the clear text of every secret it has seen."""

    __slots__ = ("secrets", "workdir")

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.secrets: set[str] = set()

    def read(self, struct: Struct) -> Properties:
        """Return the properties of a Struct."""
        return {key: self._read(value) for key, value in struct.fields.items()}

    def seal(self, value: Any) -> EngineSecret:
        """Return the value as a secret and remember its texts."""
        inner = value.value if isinstance(value, EngineSecret) else value
        self.remember(inner)
        return EngineSecret(inner)

    def remember(self, value: Any) -> None:
        """Take the texts in a value for secret."""
        for text in texts(value):
            self.secrets.update(part for part in (text, *_lines(text)) if len(part) >= 4)

    def hide(self, text: str) -> str:
        """Return the text without any secret seen so far."""
        for secret in sorted((s for s in self.secrets if s in text), key=len, reverse=True):
            text = text.replace(secret, "[secret]")
        return text

    def _read(self, value: Value) -> Any:
        kind = value.WhichOneof("kind")
        if kind == "string_value":
            return UNKNOWN if value.string_value in _UNKNOWN_TEXTS else value.string_value
        if kind == "number_value":
            return whole(value.number_value)
        if kind == "bool_value":
            return value.bool_value
        if kind == "list_value":
            return [self._read(item) for item in value.list_value.values]
        if kind == "struct_value":
            return self._read_special({key: self._read(item) for key, item in value.struct_value.fields.items()})
        return None

    def _read_special(self, fields: Properties) -> Any:
        signature = fields.get(SIGNATURE)
        if signature is None:
            return fields
        if signature == REFERENCE:
            return {"packageVersion": "", **fields}
        if signature == SECRET:
            return self.seal(fields.get("value"))
        if signature == OUTPUT:
            value = fields.get("value", UNKNOWN)
            return self.seal(value) if fields.get("secret") else value
        if signature == ASSET:
            return with_hash(fields, self.workdir)
        if signature == ARCHIVE:
            raise RefusedError("archives are not supported by the built-in engine; use files, or the Pulumi CLI")
        raise RefusedError(f"a value with the unknown signature {signature} is not supported by the built-in engine")

    def write(
        self, properties: Mapping[str, Any] | None, *, secrets: bool = True, references: bool = True, contents: bool = True
    ) -> Struct:
        """Return a Struct.

        Receivers that do not take secrets or references get the clear value, and the id or urn; without
        ``contents`` assets go as their hash only.
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
    elif isinstance(value, UnknownMarker):
        target.string_value = UNKNOWN_TEXT
    elif isinstance(value, list):
        target.list_value.SetInParent()
        for item in value:
            _write(target.list_value.values.add(), item, secrets, references, contents)
    elif isinstance(value, EngineSecret):
        _write_sealed(target, value, secrets, references, contents)
    else:
        _write_dict(target, value, secrets, references, contents)


def _write_sealed(target: Value, value: EngineSecret, secrets: bool, references: bool, contents: bool) -> None:
    if not secrets:
        return _write(target, value.value, secrets, references, contents)
    if isinstance(value.value, UnknownMarker):  # as the CLI: an unknown secret goes as a plain unknown inside the secret
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


def to_state(value: Any, crypter: Crypter, place: str) -> Any:
    """Return what the state file holds for a value: keys sorted, secrets encrypted.

    A secret inside a secret is part of the outer one's text and holds its own JSON text in clear there: that
    is what the CLI reads back.
    """
    return _to_state(value, crypter, place)


def _to_state(value: Any, crypter: Crypter | None, place: str) -> Any:
    if isinstance(value, EngineSecret):
        text = json.dumps(_to_state(value.value, None, place), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return {SIGNATURE: SECRET, "ciphertext": text if crypter is None else crypter.encrypt(text, place)}
    if isinstance(value, list):
        return [_to_state(item, crypter, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: _to_state(value[key], crypter, f"{place}.{key}") for key in sorted(value)}
    if isinstance(value, UnknownMarker):
        return UNKNOWN_TEXT
    return value


def from_state(value: Any, crypter: Crypter | None, place: str, wire: Wire | None = None) -> Any:
    """Return the value of a state file's JSON; without a crypter secrets come back as EngineSecret("[secret]")."""
    result = _from_state(value, crypter, place, sealed=False)
    if wire is not None:
        for secret in sealed_in(result):
            wire.remember(secret)
    return result


def _from_state(value: Any, crypter: Crypter | None, place: str, *, sealed: bool) -> Any:
    if isinstance(value, list):
        return [_from_state(item, crypter, f"{place}[{index}]", sealed=sealed) for index, item in enumerate(value)]
    if isinstance(value, float):
        return whole(value)
    if not isinstance(value, dict):
        return UNKNOWN if isinstance(value, str) and value in _UNKNOWN_TEXTS else value
    signature = value.get(SIGNATURE)
    if signature != SECRET:
        return {key: _from_state(item, crypter, f"{place}.{key}", sealed=sealed) for key, item in value.items()}
    if "plaintext" in value:  # an export with --show-secrets
        return EngineSecret(_from_state(_json(value["plaintext"], place), crypter, place, sealed=True))
    if sealed:  # inside another secret: its text is in clear
        return EngineSecret(_from_state(_json(value["ciphertext"], place), crypter, place, sealed=True))
    if crypter is None:
        return EngineSecret("[secret]")
    return EngineSecret(_from_state(_json(crypter.decrypt(value["ciphertext"], place), place), crypter, place, sealed=True))


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise EngineError(f"the secret at {place} does not hold JSON") from None


def whole(number: float) -> int | float:
    """Return an int where the number is whole and exact."""
    return int(number) if number.is_integer() and abs(number) < _WHOLE else number


def plain(value: Any) -> Any:
    """Return the value with its secrets in clear."""
    if isinstance(value, EngineSecret):
        return plain(value.value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def shown(value: Any, *, secrets: bool = False) -> Any:
    """Return the value as an event may show it: JSON, secrets as ``[secret]`` unless asked for."""
    if isinstance(value, EngineSecret):
        return shown(value.value, secrets=True) if secrets else "[secret]"
    if isinstance(value, UnknownMarker):
        return "[unknown]"
    if isinstance(value, list):
        return [shown(item, secrets=secrets) for item in value]
    if isinstance(value, dict):
        return {key: shown(item, secrets=secrets) for key, item in value.items()}
    return value


def equal(one: Any, other: Any) -> bool:
    """Compare as the CLI does: True is not 1, a secret is not its clear value."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, EngineSecret) and isinstance(other, EngineSecret):
        return equal(one.value, other.value)
    return type(one) is type(other) and one == other if not isinstance(one, (int, float)) else one == other


def changed_keys(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[str]:
    """Return the top-level keys whose values differ, secrets and clear values being the same."""
    return sorted(key for key in {*olds, *news} if key not in olds or key not in news or not equal(plain(olds[key]), plain(news[key])))


def sealed_in(value: Any) -> Iterator[Any]:
    """Yield the values of the outermost secrets in a value."""
    if isinstance(value, EngineSecret):
        yield value.value
    elif isinstance(value, list):
        for item in value:
            yield from sealed_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from sealed_in(item)


def has_secret(value: Any) -> bool:
    """Say whether any part of the value is secret."""
    return next(sealed_in(value), None) is not None or isinstance(value, EngineSecret)


def has_unknown(value: Any) -> bool:
    """Say whether any part of the value is unknown."""
    if isinstance(value, EngineSecret):
        return has_unknown(value.value)
    if isinstance(value, list):
        return any(map(has_unknown, value))
    if isinstance(value, dict):
        return any(map(has_unknown, value.values()))
    return isinstance(value, UnknownMarker)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a value, secret or not."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, EngineSecret):
        yield from texts(value.value)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)


def _lines(text: str) -> list[str]:
    """Return the lines of a longer text (a key): a program or a plugin prints it line by line."""
    return [line.strip() for line in text.splitlines() if len(line.strip()) >= 16] if "\n" in text.strip() else []


def carry_secrets(outs: Properties, ins: Mapping[str, Any]) -> None:
    """Seal in ``outs`` what is secret in ``ins`` under the same name: for receivers that took clear values."""
    for key, value in ins.items():
        if key not in outs:
            continue
        out = outs[key]
        if isinstance(out, dict) and isinstance(value, dict):
            carry_secrets(out, value)
        elif not isinstance(out, EngineSecret) and has_secret(value):
            outs[key] = EngineSecret(out)
