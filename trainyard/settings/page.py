"""What is made from the tables: those of docs/settings.md, and the JSON Schema by which an editor knows ``Pulumi.<stack>.yaml``.

``invoke docs --write`` writes them anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from trainyard.config import PROJECT, find_root
from trainyard.settings.table import CLOUDS, SETTINGS, Setting, description
from trainyard.settings.variables import SETTABLE, groups

SCHEMA = Path("infra", "stack.schema.json")
"""A settings file names it in a ``# yaml-language-server: $schema=`` line; init writes it into other repositories."""
PAGE = Path("docs", "settings.md")
_MADE = re.compile(r"(<!-- Made by `invoke docs --write` from the table of (\w+)\. -->\n).*?(?=<!-- End of what is made\. -->)", re.S)
_JSON_TYPES = {"text": ["string", "number"], "number": ["number"], "whole": ["integer"], "flag": ["boolean"]}


def page(text: str) -> str:
    """Return a page's text with its tables as settings and variables are now."""
    tables = {"settings": _settings, "variables": _variables}
    return _MADE.sub(lambda match: f"{match[1]}\n{tables[match[2]]()}\n", text)


def schema() -> dict[str, object]:
    """Return the schema of a stack's settings file (JSON Schema, draft 7)."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of a Trainyard stack: Pulumi.<stack>.yaml",
        "type": "object",
        "properties": {
            "config": {
                "type": ["object", "null"],
                "properties": {f"{PROJECT}:{name}": _property(setting) for name, setting in SETTINGS.items()},
                # Another project's keys are not ours to judge; a key without a namespace is nobody's.
                "patternProperties": {f"^(?!{PROJECT}:)[^:]+:": {}},
                "additionalProperties": False,
            },
            **{name: {} for name in ("encryptionsalt", "secretsprovider", "encryptedkey", "environment")},
        },
        "additionalProperties": False,
    }


def schema_text() -> str:
    """Return the schema as its file holds it."""
    return json.dumps(schema(), indent=1) + "\n"


def main() -> None:
    """Write page and schema."""
    root = find_root()
    (root / PAGE).write_text(page((root / PAGE).read_text(encoding="utf-8")), encoding="utf-8")
    (root / SCHEMA).write_text(schema_text(), encoding="utf-8")
    print(f"written: {PAGE}, {SCHEMA}")


def _settings() -> str:
    rows = ["| name | is | unless set | means | clouds | since |", "|---|---|---|---|---|---|"]
    for name, setting in SETTINGS.items():
        clouds = ", ".join(setting.clouds) or "all"
        rows.append(f"| `{name}` | {description(name)} | {setting.unset or 'nothing'} | {setting.says} | {clouds} | {setting.since} |")
    return "\n".join(rows) + "\n"


def _variables() -> str:
    rows = ["| variables | are |", "|---|---|"]
    for group in groups(*SETTABLE):
        if group.sort != "cloud" or group.of in CLOUDS:
            needed = ", ".join(f"`{name}`" for name in (*group.keys, *group.needed))
            rest = ", ".join(f"`{name}`" for name in (*group.usual, *group.more_keys, *group.more))
            rows.append(f"| {'; '.join(filter(None, (needed, rest)))} | {group.says} |")
    return "\n".join(rows) + "\n"


def _property(setting: Setting) -> dict[str, object]:
    only = f" Cloud {' or '.join(setting.clouds)} only." if setting.clouds else ""
    unset = f" Unless set: {setting.unset}." if setting.unset else ""
    plain = _plain(setting)
    return {
        "description": f"{_sentence(setting.says)} {_sentence(description(setting.name))}{unset}{only}".replace("`", ""),
        **({"anyOf": [plain, _SECURE]} if setting.secret else plain),
    }


def _plain(setting: Setting) -> dict[str, object]:
    """Return what a value that is not encrypted must be; a number may stand in quotes, which an editor need not learn."""
    shape = setting.shape
    bounds = {"minimum": shape.least, "exclusiveMinimum": shape.above, "maximum": shape.most}
    one: dict[str, object] = {"type": _JSON_TYPES.get(shape.kind, _JSON_TYPES["text"])}
    one |= {name: value for name, value in bounds.items() if value is not None}
    if shape.kind in ("text", "texts"):
        one["minLength"] = 1
    if shape.choices:
        one = {"enum": list(shape.choices)}
    if shape.pattern is not None:
        one["pattern"] = f"^(?:{shape.pattern})$"
    if shape.kind == "texts":
        return {"anyOf": [one, {"type": "array", "items": one}]}
    if shape.kind == "mapping":
        names = {"pattern": one["pattern"]} if "pattern" in one else {}
        return {
            "type": "object",
            "propertyNames": names,
            "additionalProperties": {"anyOf": [{"type": ["string", "number", "boolean"]}, _SECURE]},
        }
    if shape.kind == "mappings":
        return {"type": "array", "items": {"type": "object"}}
    return one


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


_SECURE = {"type": "object", "properties": {"secure": {"type": "string"}}, "required": ["secure"], "additionalProperties": False}


if __name__ == "__main__":
    main()
