"""The JSON Schema by which an editor knows a file of runs/, made of the table that reads it; ``invoke docs --write`` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path

from trainyard.config import find_root
from trainyard.reading import Shape
from trainyard.runs.gitops.runfile import FIELDS
from trainyard.settings.page import value_schema

SCHEMA = Path("infra", "run.schema.json")
"""A run file names it in a ``# yaml-language-server: $schema=`` line; init writes it into other repositories."""


def schema() -> dict[str, object]:
    """Return the schema of a run file (JSON Schema, draft 7)."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A run of Trainyard: runs/<name>.yaml",
        "type": "object",
        "properties": {name: {"description": field.says.replace("`", ""), **_property(field.shape)} for name, field in FIELDS.items()},
        "required": ["stack"],
        "additionalProperties": False,
    }


def _property(shape: Shape) -> dict[str, object]:
    if shape.kind == "map":
        return {"type": "object"}
    one = value_schema(shape)
    return {"anyOf": [one, {"type": "array", "items": one}]} if shape.kind == "texts" else one


def schema_text() -> str:
    """Return the schema as its file holds it."""
    return json.dumps(schema(), indent=1) + "\n"


def main() -> None:
    """Write the schema."""
    (find_root() / SCHEMA).write_text(schema_text(), encoding="utf-8")
    print(f"written: {SCHEMA}")


if __name__ == "__main__":
    main()
