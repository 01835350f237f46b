"""Check requests and answers against the field lists of RunPod's REST v2 (schema.json, taken from its OpenAPI document)."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def check(name: str, value: object) -> list[str]:
    """Return what is wrong with a value of the named type, in the words RunPod's validation uses; empty when nothing is."""
    return _check(_schemas()[name], value, "$")


@functools.cache
def _schemas() -> Mapping[str, Mapping[str, object]]:
    text = (Path(__file__).parent / "schema.json").read_text(encoding="utf-8")
    schemas: Mapping[str, Mapping[str, object]] = json.loads(text)
    return schemas


def _check(schema: Mapping[str, object], value: object, path: str) -> list[str]:
    choices = schema.get("anyOf")
    if isinstance(choices, list):
        found = [_check(choice, value, path) for choice in choices]
        return [] if any(not errors for errors in found) else found[0]
    types = schema.get("type", [])
    names = types if isinstance(types, list) else [types]
    if names and not any(_is(value, str(name)) for name in names):
        return [f"{path}: got {type(value).__name__}, want {' or '.join(map(str, names))}"]
    errors = _check_scalar(schema, value, path)
    if isinstance(value, dict):
        errors += _check_object(schema, value, path)
    if isinstance(value, list):
        items, most = schema.get("items"), schema.get("maxItems")
        if isinstance(items, dict):
            errors += [error for index, item in enumerate(value) for error in _check(items, item, f"{path}[{index}]")]
        if isinstance(most, int) and len(value) > most:
            errors.append(f"{path}: maxItems {most}, got {len(value)}")
    return errors


def _check_scalar(schema: Mapping[str, object], value: object, path: str) -> list[str]:
    errors = []
    enum, least, most = schema.get("enum"), schema.get("minimum"), schema.get("maximum")
    shortest, pattern = schema.get("minLength"), schema.get("pattern")
    if isinstance(enum, list) and value not in enum:
        errors.append(f"{path}: value must be one of {', '.join(map(repr, enum))}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(least, int | float) and value < least:
            errors.append(f"{path}: minimum {least}, got {value}")
        if isinstance(most, int | float) and value > most:
            errors.append(f"{path}: maximum {most}, got {value}")
    if isinstance(value, str):
        if isinstance(shortest, int) and len(value) < shortest:
            errors.append(f"{path}: minLength {shortest}, got {len(value)}")
        if isinstance(pattern, str) and not re.search(pattern, value):
            errors.append(f"{path}: does not match pattern {pattern!r}")
        if schema.get("format") == "date-time" and not _is_time(value):
            errors.append(f"{path}: {value!r} is no date-time")
    return errors


def _check_object(schema: Mapping[str, object], value: Mapping[str, object], path: str) -> list[str]:
    given = schema.get("properties")
    properties = given if isinstance(given, dict) else {}
    required = schema.get("required")
    missing = [key for key in required if key not in value] if isinstance(required, list) else []
    errors = [f"{path}: missing property {key!r}" for key in missing]
    values = schema.get("values")
    for key, item in value.items():
        if key in properties:
            errors += _check(properties[key], item, f"{path}.{key}")
        elif isinstance(values, dict):
            errors += _check(values, item, f"{path}.{key}")
        elif schema.get("closed"):
            errors.append(f"{path}: additional properties {key!r} not allowed")
    return errors


def _is(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name]) or (name == "integer" and isinstance(value, float) and value.is_integer())


def _is_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
