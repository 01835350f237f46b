"""Change settings of a stack in its file: what is said is put into its line, or added; every other line and comment stays.

What comes out is judged by the reader before it is written.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from trainyard.config import PROJECT
from trainyard.errors import Location, UserError
from trainyard.reading import read
from trainyard.settings import reader
from trainyard.settings.table import SETTINGS

_PLAIN = re.compile(r"[A-Za-z]([\w .@/-]*\w)?", re.ASCII)


def typed_setting(name: str, text: str) -> object:
    """Return what a word of a command line means as a setting, lists by their commas; raises UserError for what it cannot be."""
    if name not in SETTINGS:
        raise UserError(f"unknown setting '{name}'", hint="All of them: docs/settings.md")
    shape = SETTINGS[name].shape
    listed = shape.kind in ("texts", "mappings") and not text.lstrip().startswith(("[", "{"))
    value = json.dumps([part.strip() for part in text.split(",") if part.strip()]) if listed else text
    return reader.as_written(_short(read(shape, value, name), shape.short))


def changed_file(text: str, name: str, values: Mapping[str, object]) -> str:
    """Return the text of a stack's file with these settings; raises UserError for a file that is no YAML."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += "\n"
    config = _config(text, name)
    left = dict(values)
    column, after = 2, None
    pairs = config.value if isinstance(config, yaml.MappingNode) else []
    for key, value in reversed(pairs):
        if key.value.rpartition(":")[2] in left and key.value.startswith(f"{PROJECT}:"):
            _replace(lines, key, value, f"{key.value}: {_flow(left.pop(key.value.rpartition(':')[2]))}")
    for key, _ in pairs:
        column = key.start_mark.column
        after = key.start_mark.line + 1 if after is None or key.value == f"{PROJECT}:cloud" else after
    added = [f"{' ' * column}{PROJECT}:{each}: {_flow(value)}\n" for each, value in left.items()]
    if after is None:
        at = next((number for number, line in enumerate(lines, 1) if line.startswith("config:")), None)
        if at is None:
            lines, at = [*lines, "config:\n"], len(lines) + 1
        lines[at - 1] = "config:\n"
        after = at
    return "".join([*lines[:after], *added, *lines[after:]])


def judge(text: str, stack: str) -> None:
    """Raise UserError at the first thing that is wrong in the text of a stack's file."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"Pulumi.{stack}.yaml").write_text(text, encoding="utf-8")
        reader.load(Path(folder), stack)


def _config(text: str, name: str) -> yaml.Node | None:
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise UserError(f"not valid YAML: {error.problem}", where=Location(name, mark.line + 1 if mark else 1)) from None
    if not isinstance(document, yaml.MappingNode):
        return None
    return next((value for key, value in document.value if key.value == "config"), None)


def _replace(lines: list[str], key: yaml.Node, value: yaml.Node, said: str) -> None:
    """Put a pair into one line, with the remark that stood behind it."""
    first, last, column = key.start_mark.line, value.end_mark.line, value.end_mark.column
    head = lines[first][: key.start_mark.column]
    if isinstance(value, yaml.CollectionNode) and not value.flow_style:
        while last > first and (last >= len(lines) or last == value.end_mark.line or not _says_something(lines[last])):
            last -= 1
        lines[first : last + 1] = [f"{head}{said}\n"]
    else:
        lines[first : last + 1] = [f"{head}{said}{lines[last][column:].rstrip()}\n"]


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _short(value: object, key: str) -> object:
    return [item[key] if set(item) == {key} else item for item in value] if key and isinstance(value, tuple) else value


def _flow(value: object) -> str:
    """Return a value as it stands behind its key: JSON is YAML, and a plain name needs no quotes."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in ("true", "false", "null", "yes", "no", "on", "off")
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
