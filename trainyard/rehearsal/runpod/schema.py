"""Check requests and answers against the field lists of RunPod's REST v2 (schema.json, taken from its OpenAPI document)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker

from trainyard.jsontext import parse_json


def check(name: str, value: object) -> list[str]:
    """Return what is wrong with a value of the named type, each with its place; empty when nothing is."""
    return [f"{error.json_path}: {error.message}" for error in _validators()[name].iter_errors(value)]


@functools.cache
def _validators() -> Mapping[str, Draft202012Validator]:
    formats = FormatChecker(formats=())
    formats.checks("date-time", raises=ValueError)(_is_time)
    schemas = parse_json((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))
    return {name: Draft202012Validator(schema, format_checker=formats) for name, schema in schemas.items()}


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None
