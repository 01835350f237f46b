"""The programs that docs/provider.md shows fit the provider's schema, in each language."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.shown import FENCE
from trainyard.provider.schema import schema

PAGE = Path(__file__).resolve().parents[2] / "docs" / "provider.md"
SHAPES: Mapping[str, Any] = {token.rsplit(":", 1)[1]: shape for token, shape in json.loads(schema())["resources"].items()}


def program(language: str) -> str:
    (text,) = [body for kind, body in FENCE.findall(PAGE.read_text(encoding="utf-8")) if kind == language]
    return str(text)


def problems(resources: Mapping[str, tuple[str, Mapping[str, str]]]) -> list[str]:
    """Return what the schema does not know of resources (name -> type, inputs as text)."""
    found = []
    for name, (kind, inputs) in resources.items():
        shape = SHAPES[kind]
        found += [f"{name}: no input {word}" for word in sorted(set(inputs) - set(shape["inputProperties"]))]
        found += [f"{name}: lacks {word}" for word in sorted(set(shape["requiredInputs"]) - set(inputs))]
        for value in inputs.values():
            for other, output in re.findall(r"\b([a-z]+)\.([a-z_]+)\b", value):
                if output not in SHAPES[resources[other][0]]["properties"]:
                    found.append(f"{name}: {other} has no output {output}")
    return found


def test_the_yaml_program_fits_the_schema() -> None:
    document = yaml.safe_load(program("yaml"))
    resources = {
        name: (str(each["type"]).removeprefix("trainyard:"), {key: str(value) for key, value in each.get("properties", {}).items()})
        for name, each in document["resources"].items()
    }

    assert {kind for kind, _ in resources.values()} == {"SshKey", "Lease", "Pod", "Endpoint"}
    assert problems(resources) == []


def test_the_typescript_program_fits_the_schema() -> None:
    resources = {
        name: (kind, {key: value or key for key, value in re.findall(r"(\w+): ([^,}\n]+)", body)})
        for name, kind, body in re.findall(r"const (\w+) = new trainyard\.(\w+)\(\"\w+\"(?:, \{(.*?)\})?[,)]", program("typescript"), re.S)
    }

    assert {kind for kind, _ in resources.values()} == {"SshKey", "Lease", "Pod", "Endpoint"}
    assert problems(resources) == []


def test_what_the_schema_does_not_know_is_found() -> None:
    wrong = {"fence": ("Lease", {"cloud": "local", "hour": "1"}), "pod": ("Endpoint", {"cloud": "local", "pod_id": "fence.pod_id"})}

    assert problems(wrong) == ["fence: no input hour", "pod: fence has no output pod_id"]
