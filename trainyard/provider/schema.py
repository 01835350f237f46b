"""The package's schema, made from the dataclasses, so that programs in other languages can use the provider."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trainyard import __version__
from trainyard.provider.handler import ResourceHandler
from trainyard.provider.model import Property, properties
from trainyard.provider.registry import HANDLERS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_SIMPLE: dict[type, dict[str, object]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    list: {"type": "array", "items": {"type": "string"}},
    dict: {"type": "object", "additionalProperties": {"type": "string"}},
    object: {"type": "array", "items": {"$ref": "pulumi.json#/Any"}},
}


def schema() -> str:
    """Return the schema as JSON."""
    document = {
        "name": "trainyard",
        "displayName": "Trainyard",
        "version": __version__,
        "description": "GPU pods with leases, buckets with lifecycle rules: what a training run needs, and proof that nothing is left.",
        "resources": {handler.token: _resource(handler) for handler in HANDLERS},
    }
    return json.dumps(document)


def _resource(handler: ResourceHandler) -> dict[str, object]:
    outputs = properties(handler.outputs)
    return {
        "description": handler.doc,
        "inputProperties": _properties(handler.inputs, inputs=True),
        "requiredInputs": [item.name for item in properties(handler.inputs) if item.required],
        "properties": _properties(handler.outputs, inputs=False),
        "required": [item.name for item in outputs if item.default is not None or item.required],
    }


def _properties(shape: type[DataclassInstance], *, inputs: bool) -> dict[str, object]:
    return {item.name: _property(item, inputs=inputs) for item in properties(shape)}


def _property(item: Property, *, inputs: bool) -> dict[str, object]:
    result: dict[str, object] = {**_SIMPLE[item.kind], "description": item.doc}
    if inputs and isinstance(item.default, (str, int, float, bool)):
        result["default"] = item.default
    if item.secret:
        result["secret"] = True
    if item.replaces and inputs:
        result["willReplaceOnChanges"] = True
    return result
