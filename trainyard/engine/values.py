"""Property values of an operation: what passes on the wire is kept secret where it is, and the form they have in a state file.

In Python a value is None, bool, int, float, str, list, dict, UNKNOWN or SecretValue. Assets and resource
references stay dicts that carry their signature. A number is an int when it is whole: JSON then reads as the
CLI writes it. Clear texts of all secrets that pass are collected, so that messages can be cleaned of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.engine.assets import with_hash
from trainyard.engine.codec import plain, read_struct, whole
from trainyard.engine.document import parse_json
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
    UNKNOWN_TEXTS,
    Properties,
    SecretValue,
    UnknownValue,
)

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct

    from trainyard.engine.secrets import Crypter


class Wire:
    """Reads Structs; remembers the clear text of every secret it has seen."""

    __slots__ = ("secrets", "workdir")

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.secrets: set[str] = set()

    def read(self, struct: Struct) -> Properties:
        """Return the properties of a Struct."""
        return read_struct(struct, self._signed)

    def seal(self, value: Any) -> SecretValue:
        """Return the value as a secret and remember its texts."""
        inner = value.value if isinstance(value, SecretValue) else value
        self.remember(inner)
        return SecretValue(inner)

    def remember(self, value: Any) -> None:
        """Take the texts in a value for secret."""
        for text in texts(value):
            self.secrets.update(part for part in (text, *_lines(text)) if len(part) >= 4)

    def hide(self, text: str) -> str:
        """Return the text without any secret seen so far."""
        for secret in sorted((s for s in self.secrets if s in text), key=len, reverse=True):
            text = text.replace(secret, "[secret]")
        return text

    def _signed(self, fields: Properties) -> Any:
        signature = fields[SIGNATURE]
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


def to_state(value: Any, crypter: Crypter, place: str) -> Any:
    """Return what the state file holds for a value: keys sorted, secrets encrypted.

    A secret inside a secret is part of the outer one's text and holds its own JSON text in clear there: that
    is what the CLI reads back.
    """
    return _to_state(value, crypter, place)


def _to_state(value: Any, crypter: Crypter | None, place: str) -> Any:
    if isinstance(value, SecretValue):
        text = json.dumps(_to_state(value.value, None, place), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return {SIGNATURE: SECRET, "ciphertext": text if crypter is None else crypter.encrypt(text, place)}
    if isinstance(value, list):
        return [_to_state(item, crypter, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: _to_state(value[key], crypter, f"{place}.{key}") for key in sorted(value)}
    if isinstance(value, UnknownValue):
        return UNKNOWN_TEXT
    return value


def from_state(value: Any, crypter: Crypter | None, place: str, wire: Wire | None = None) -> Any:
    """Return the value of a state file's JSON; without a crypter secrets come back as SecretValue("[secret]")."""
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
        return UNKNOWN if isinstance(value, str) and value in UNKNOWN_TEXTS else value
    signature = value.get(SIGNATURE)
    if signature != SECRET:
        return {key: _from_state(item, crypter, f"{place}.{key}", sealed=sealed) for key, item in value.items()}
    if "plaintext" in value:  # an export with --show-secrets
        return SecretValue(_from_state(_json(value["plaintext"], place), crypter, place, sealed=True))
    if sealed:  # inside another secret: its text is in clear
        return SecretValue(_from_state(_json(value["ciphertext"], place), crypter, place, sealed=True))
    if crypter is None:
        return SecretValue("[secret]")
    return SecretValue(_from_state(_json(crypter.decrypt(value["ciphertext"], place), place), crypter, place, sealed=True))


def _json(text: str, place: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        raise EngineError(f"the secret at {place} does not hold JSON") from None


def display(value: Any, *, secrets: bool = False) -> Any:
    """Return the value as an event may show it: JSON, secrets as ``[secret]`` unless asked for."""
    if isinstance(value, SecretValue):
        return display(value.value, secrets=True) if secrets else "[secret]"
    if isinstance(value, UnknownValue):
        return "[unknown]"
    if isinstance(value, list):
        return [display(item, secrets=secrets) for item in value]
    if isinstance(value, dict):
        return {key: display(item, secrets=secrets) for key, item in value.items()}
    return value


def equal(one: Any, other: Any) -> bool:
    """Compare as the CLI does: True is not 1, a secret is not its clear value."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, SecretValue) and isinstance(other, SecretValue):
        return equal(one.value, other.value)
    return type(one) is type(other) and one == other if not isinstance(one, (int, float)) else one == other


def changed_keys(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[str]:
    """Return the top-level keys whose values differ, secrets and clear values being the same."""
    return sorted(key for key in {*olds, *news} if key not in olds or key not in news or not equal(plain(olds[key]), plain(news[key])))


def sealed_in(value: Any) -> Iterator[Any]:
    """Yield the values of the outermost secrets in a value."""
    if isinstance(value, SecretValue):
        yield value.value
    elif isinstance(value, list):
        for item in value:
            yield from sealed_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from sealed_in(item)


def has_secret(value: Any) -> bool:
    """Say whether any part of the value is secret."""
    return next(sealed_in(value), None) is not None or isinstance(value, SecretValue)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a value, secret or not."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, SecretValue):
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
        elif not isinstance(out, SecretValue) and has_secret(value):
            outs[key] = SecretValue(out)
