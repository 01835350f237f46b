"""Check requests and answers against the field lists of RunPod's REST v2 (schema.json, taken from its OpenAPI document)."""

from __future__ import annotations

import functools
import marshal
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from trainyard.jsontext import parse_json


def check(name: str, value: object) -> list[str]:
    """Return what is wrong with a value of the named type, each with its place; empty when nothing is."""
    if name == "ListPodsResponse" and isinstance(value, dict) and isinstance(pods := value.get("pods"), list):
        # A pod is looked at once as long as it is shown alike: ten thousand of them take the validator two seconds.
        return [f"$.pods[{number}]: {wrong}" for number, pod in enumerate(pods) for wrong in _pod(marshal.dumps(_timeless(pod), 2))]
    return [f"{error.json_path}: {error.message}" for error in _validators()[name].iter_errors(value)]


def _timeless(pod: Any) -> Any:
    """Return a pod as shown whenever: of its uptime, which is another each second, only that it is one."""
    if isinstance(pod, dict) and isinstance(runtime := pod.get("runtime"), dict) and isinstance(runtime.get("uptime"), int):
        return {**pod, "runtime": {**runtime, "uptime": min(runtime["uptime"], 1)}}
    return pod


@functools.lru_cache(maxsize=20_000)
def _pod(shown: bytes) -> list[str]:
    return check("Pod", marshal.loads(shown))


@functools.cache
def _validators() -> Mapping[str, Draft202012Validator]:
    formats = FormatChecker(formats=())
    formats.checks("date-time", raises=ValueError)(_is_time)
    schemas = parse_json((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))
    return {name: Draft202012Validator(schema, format_checker=formats) for name, schema in schemas.items()}


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None
