"""The product's own sources, parsed once, and who refers to which of their names."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
Function = ast.FunctionDef | ast.AsyncFunctionDef
_NAMED = re.compile(r"trainyard(\.\w+)+:\w+")
"""How a table names a function: ``module:name``."""


@functools.cache
def trees() -> Mapping[str, ast.Module]:
    """Return every module of the product by its path, and those programs beside it that use it."""
    folders = ("trainyard", "infra", "bench", "templates")
    paths = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(paths)}


@functools.cache
def nodes(path: str) -> tuple[ast.AST, ...]:
    """Return every node of a module."""
    return tuple(ast.walk(trees()[path]))


def module_of(path: str) -> str:
    """Return the dotted name of a module."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def definitions(tree: ast.Module) -> Iterator[tuple[str, Definition]]:
    """Yield what a module defines at its top, by name."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
            yield from ((part.id, node) for part in targets if isinstance(part, ast.Name))


@functools.cache
def referred() -> frozenset[tuple[str, str]]:
    """Return (module, name) of all that is referred to from elsewhere than its own definition."""
    modules = {module_of(path) for path in trees()}
    return frozenset(
        pair for path, tree in trees().items() for pair in (*_imported(path, modules), *_loaded(path, tree))
    )  # fmt: skip


def _imported(path: str, modules: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what a module takes from others: by name, or as an attribute of an imported module."""
    aliases: dict[str, set[str]] = defaultdict(set)
    folder = module_of(path).rpartition(".")[0]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for name in node.names:
                # A program that is started by its path finds what lies beside it under its bare name.
                beside = f"{folder}.{name.name}"
                aliases[name.asname or name.name.partition(".")[0]].add(beside if beside in modules else name.name)
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                if f"{node.module}.{name.name}" in modules:
                    aliases[name.asname or name.name].add(f"{node.module}.{name.name}")
                else:
                    yield str(node.module), name.name
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from ((alias, node.attr) for alias in aliases.get(node.value.id, ()))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAMED.fullmatch(node.value):
            module, _, function = node.value.partition(":")
            yield module, function


def _loaded(path: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield what a module itself uses of what it defines, outside the definition."""
    lines: dict[str, list[int]] = defaultdict(list)
    for node in nodes(path):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            lines[node.id].append(node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            lines[node.value].append(node.lineno)  # an annotation in quotes
    for name, node in definitions(tree):
        if any(not node.lineno <= line <= (node.end_lineno or 0) for line in lines[name]):
            yield module_of(path), name


@functools.cache
def attributes() -> Mapping[str, tuple[tuple[str, int], ...]]:
    """Return for each attribute that is read anywhere, and each name in quotes, where (path, line) that is."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for path in trees():
        for node in nodes(path):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found[node.attr].append((path, node.lineno))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                found[node.value].append((path, node.lineno))
    return {name: tuple(places) for name, places in found.items()}


def methods(tree: ast.Module) -> Iterator[tuple[ast.ClassDef, Function]]:
    """Yield the methods of a module's classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from ((node, part) for part in node.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)))


def foreign(node: ast.ClassDef) -> bool:
    """Tell whether a class inherits from outside the product: its methods may be called from there."""
    names = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
    return any(not isinstance(name, ast.Name) or name.id not in _classes() for name in names)


@functools.cache
def _classes() -> frozenset[str]:
    return frozenset(part.name for tree in trees().values() for part in tree.body if isinstance(part, ast.ClassDef))
