"""House rules that a parser can keep: every setting is read, every name that is told exists, and nothing lives for tests alone."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainyard.settings.table import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
TABLE = "trainyard/settings/"


@functools.cache
def trees() -> Mapping[str, ast.Module]:
    """Return every module of the product, parsed."""
    paths = [ROOT / "tasks.py", *(ROOT / "trainyard").rglob("*.py"), *(ROOT / "infra").rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


# Who reads which setting


MAKERS = {"settings_of", "partly", "partly_at", "settings", "environment_settings", "from_environment", "raised"}
"""What returns a StackSettings, alone or as the first of a pair; ``reader.load`` besides."""


def is_settings(node: ast.expr, names: set[str]) -> bool:
    """Tell whether an expression is a StackSettings, as far as names and annotations say."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Attribute):
        return node.attr == "settings"
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    if isinstance(called, ast.Attribute):
        return called.attr in MAKERS or (called.attr == "load" and isinstance(called.value, ast.Name) and called.value.id == "reader")
    return isinstance(called, ast.Name) and called.id in MAKERS


def settings_names(function: ast.AST) -> set[str]:
    """Return the names that hold a StackSettings in a function."""
    names = {
        arg.arg
        for arg in ast.walk(function)
        if isinstance(arg, ast.arg) and arg.annotation is not None and ast.unparse(arg.annotation) == "StackSettings"
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and is_settings(node.value, names):
            parts = (target.elts[0] if isinstance(target, ast.Tuple) else target for target in node.targets)
            names |= {part.id for part in parts if isinstance(part, ast.Name)}
    return names


def readings() -> Iterator[tuple[str, str]]:
    """Yield (room, setting) for each attribute of a StackSettings that is read outside the table."""
    table = trees()[f"{TABLE}table.py"]
    properties = {
        node.name: {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)} & set(SETTINGS)
        for node in ast.walk(table)
        if isinstance(node, ast.FunctionDef) and any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)
    }
    for path, tree in trees().items():
        if path.startswith(TABLE):
            continue
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            names = settings_names(function)
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and is_settings(node.value, names):
                    for name in properties.get(node.attr, {node.attr} & set(SETTINGS)):
                        yield path.split("/")[1].removesuffix(".py"), name


def test_every_setting_is_read_by_the_rooms_that_the_table_names() -> None:
    found: dict[str, set[str]] = {name: set() for name in SETTINGS}
    for room, name in readings():
        found[name].add(room)

    assert {name: tuple(sorted(rooms)) for name, rooms in found.items()} == {
        name: tuple(sorted(each.readers)) for name, each in SETTINGS.items()
    }
    assert [name for name, each in SETTINGS.items() if not each.readers] == []
