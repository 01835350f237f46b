"""What is made from the tables: those of docs/settings.md, and the JSON Schema by which an editor knows ``Pulumi.<stack>.yaml``.

``invoke docs --write`` writes them anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from trainyard.config import PROJECT, find_root
from trainyard.reading import HUGE, NUMERAL, SAID, Shape
from trainyard.settings.blocks import BLOCKS, HOST_NEEDS, LIMIT_NEEDS, RULE_ACTIONS
from trainyard.settings.clouds import entries
from trainyard.settings.setting import Setting
from trainyard.settings.table import OF_OURS, SETTINGS, clouds_that_know, known_to
from trainyard.settings.variables import SETTABLE, groups, never_sent

SCHEMA = Path("infra", "stack.schema.json")
"""A settings file names it in a ``# yaml-language-server: $schema=`` line; init writes it into other repositories."""
PAGE = Path("docs", "settings.md")
_MADE = re.compile(r"(<!-- Made by `invoke docs --write` from the table of (\w+)\. -->\n).*?(?=<!-- End of what is made\. -->)", re.S)
_NUMBERS = ("7", "-1", "123", "13.0", "12345678")
"""What numbers look like as texts: one of them for each pattern that a number can fit."""
_GROUPS = {
    "cloud": "What is rented",
    "pod_env": "What a pod gets of yours",
    "hours": "Time and money",
    "boot_accepted_minutes": "How long a pod may take to start",
    "upload_consent": "Data and results",
    "ssh_key_file": "The environment",
}
"""Headings of the page, each by the setting that it begins with."""


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
                "properties": {_key(name): _property(setting) for name, setting in SETTINGS.items()},
                # Another project's keys are not ours to judge; a key without a namespace is nobody's.
                "patternProperties": {f"^(?!{PROJECT}:)[^:]+:": {}},
                "additionalProperties": False,
                "allOf": _together(),
            },
            **{name: {} for name in ("encryptionsalt", "secretsprovider", "encryptedkey", "environment")},
        },
        "additionalProperties": False,
    }


def _together() -> list[dict[str, object]]:
    """Return what ``flaws.flaw`` says of settings that are each right."""
    rules: list[dict[str, object]] = [
        {"not": {"required": [_key("image"), _key("template")]}},
        {
            "if": {"properties": {_key("pods"): {"not": {"enum": [0, "0"]}}}, "required": [_key("pods")]},
            "then": {"required": [_key("hours")]},
        },
    ]
    for cloud in entries():
        others = {_key(name): _unset(setting) for name, setting in SETTINGS.items() if not known_to(name, cloud)}
        if others:
            is_it = {"properties": {_key("cloud"): {"const": cloud}}, "required": [_key("cloud")]}
            rules.append({"if": is_it, "then": {"properties": others}})
    return rules


def _unset(setting: Setting) -> object:
    """Return what a setting may be where it means nothing."""
    return {"enum": [False, "false"]} if setting.default is False else {"enum": [[], "[]"]} if setting.default == () else False


def _key(name: str) -> str:
    return f"{PROJECT}:{name}"


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
    rows: list[str] = []
    for name, setting in SETTINGS.items():
        if name in _GROUPS:
            rows += ["", f"### {_GROUPS[name]}", "", "| name | is | unless set | means | clouds | since |", "|---|---|---|---|---|---|"]
        clouds = ", ".join(clouds_that_know(name)) if setting.some_clouds else "all"
        rows.append(f"| `{name}` | {description(name)} | {setting.unset or 'nothing'} | {setting.says} | {clouds} | {setting.since} |")
    return "\n".join(rows[1:]) + "\n"


def _variables() -> str:
    shown: dict[str, str] = {}
    for group in groups(*SETTABLE):
        if group.sort != "cloud" or group.of in entries():
            needed = ", ".join(f"`{name}`" for name in (*group.keys, *group.needed))
            rest = ", ".join(f"`{name}`" for name in (*group.usual, *group.more_keys, *group.more))
            shown.setdefault("; ".join(filter(None, (needed, rest))), group.says)  # two clouds may be one account's
    return "\n".join(("| variables | are |", "|---|---|", *(f"| {names} | {says} |" for names, says in shown.items()))) + "\n"


def _property(setting: Setting) -> dict[str, object]:
    only = f" Cloud {' or '.join(clouds_that_know(setting.name))} only." if setting.some_clouds else ""
    unset = f" Unless set: {setting.unset}." if setting.unset else ""
    plain = _plain(setting)
    return {
        "description": f"{_sentence(setting.says)} {_sentence(description(setting.name))}{unset}{only}".replace("`", ""),
        **({"anyOf": [plain, _SECURE]} if setting.secret else plain),
    }


def _plain(setting: Setting) -> dict[str, object]:
    """Return what a value that is not encrypted must be. What stands in quotes is judged by its looks, as `pulumi config set` writes it."""
    shape = setting.shape
    one = value_schema(shape, setting.name)
    if shape.kind == "texts":
        return {"anyOf": [one, {"type": "array", "items": one}, _in_quotes("[")]}
    if shape.kind == "mapping":
        names = {"pattern": f"^(?:{shape.pattern})$"} if shape.pattern else {}
        values = {"anyOf": [{"type": ["string", "boolean"]}, _number({}), _SECURE]}
        kept_back = {"not": {"enum": sorted(never_sent())}}
        return {"anyOf": [{"type": "object", "propertyNames": {**names, **kept_back}, "additionalProperties": values}, _in_quotes("{")]}
    if shape.kind == "mappings":
        block = {"anyOf": [value_schema(BLOCKS[setting.name][shape.short]), _block(setting.name)]} if shape.short else _block(setting.name)
        return {"anyOf": [{"type": "array", "items": block}, _in_quotes("[")]}
    return one


def _block(name: str) -> dict[str, object]:
    """Return what a block of a setting may say, and must: of some one at least, of a limit all that it needs."""
    needs = {"lifecycle": ("anyOf", RULE_ACTIONS), "approve": ("anyOf", tuple(BLOCKS[name])), "hosts": ("allOf", HOST_NEEDS)}
    how, needed = needs.get(name, ("allOf", LIMIT_NEEDS))
    return {
        "type": "object",
        "properties": {key: {"anyOf": [*_values(each), {"type": "null"}]} for key, each in BLOCKS[name].items()},
        "additionalProperties": False,
        how: [{"properties": {key: {"not": {"type": "null"}}}, "required": [key]} for key in needed],
    }


def _values(shape: Shape) -> list[dict[str, object]]:
    one = value_schema(shape)
    return [one, {"type": "array", "items": one}] if shape.kind == "texts" else [one]


def value_schema(shape: Shape, name: str = "") -> dict[str, object]:
    """Return what one value, or one of a list, must be."""
    if shape.choices:
        return {"enum": list(shape.choices)}
    if shape.kind == "flag":
        return {"enum": [True, False, "true", "false"]}
    if shape.kind in ("number", "whole"):
        bounds = {"minimum": shape.least, "exclusiveMinimum": shape.above, "maximum": shape.most}
        number = _number({key: value for key, value in bounds.items() if value is not None})
        return {
            "anyOf": [number if shape.kind == "number" else {**number, "type": "integer"}, {"type": "string", "pattern": f"^{NUMERAL}$"}]
        }
    text: dict[str, object] = {"type": ["string", "number"], **({} if shape.empty else {"minLength": 1})}
    if shape.pattern is not None:
        fits = any(re.fullmatch(shape.pattern, number) for number in _NUMBERS)
        text = {"type": ["string", "number"] if fits else "string", "pattern": f"^(?:{shape.pattern})$"}
    if name == "pod_secrets":
        text["not"] = {"anyOf": [{"enum": sorted(never_sent())}, {"pattern": f"^(?:{'|'.join(OF_OURS)})"}]}
    return text


def _number(bounds: Mapping[str, object]) -> dict[str, object]:
    return {"type": "number", "exclusiveMinimum": -HUGE, "exclusiveMaximum": HUGE, **bounds}


def _in_quotes(opening: str) -> dict[str, object]:
    """Return a list or a map as a text of JSON."""
    return {"type": "string", "pattern": f"^\\s*\\{opening}"}


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


_SECURE = {"type": "object", "properties": {"secure": {"type": "string"}}, "required": ["secure"], "additionalProperties": False}


def description(name: str) -> str:
    """Return in words what a setting may be, as docs/settings.md and the editor's schema show it."""
    setting = SETTINGS[name]
    shape = setting.shape
    if shape.choices:
        return ", ".join(shape.choices[:-1]) + f" or {shape.choices[-1]}"
    kind = SAID[shape.kind] if not setting.unit else f"{SAID[shape.kind]} of {setting.unit}"
    if setting.unit == "dollars an hour":
        kind = "dollars an hour"
    least = f", {shape.least:g} or more" if shape.least is not None else ""
    least += f", more than {shape.above:g}" if shape.above is not None else ""
    most = f", at most {shape.most:g}" if shape.most is not None else ""
    like = f" like {shape.looks_like}" if shape.looks_like else ""
    return f"{kind}{like}{least}{most}"


if __name__ == "__main__":
    main()
