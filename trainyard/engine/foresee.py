"""Find in the program's text what would be refused late: features used inside an ``apply``.

The body of the program runs before the first request is sent, so what it uses is refused in time (``refusals.py``).
What a callback of ``apply`` uses would show when resources exist already. So callbacks are read beforehand:
lambdas and functions of the same file, and what these call. What cannot be seen here is refused when it is reached.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.engine.hook import Location, RefusedError
from trainyard.engine.refusals import REFUSED_CLASSES, REFUSED_OPTIONS, refused

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class _Names:
    """What names of a file stand for: modules of Pulumi, members of it, functions of the file."""

    modules: set[str] = field(default_factory=set)
    members: dict[str, str] = field(default_factory=dict)
    functions: dict[str, _Function] = field(default_factory=dict)

    def member(self, node: ast.expr) -> str:
        """Return which member of ``pulumi`` an expression names, an empty text when it names none."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in self.modules:
            return node.attr
        return self.members.get(node.id, "") if isinstance(node, ast.Name) else ""


def late_refusal(sources: Iterable[Path]) -> RefusedError | None:
    """Return the refusal of the first unsupported feature in a callback of ``apply``, with its line."""
    for path in sources:
        text = path.read_text(encoding="utf-8", errors="replace")
        if ".apply(" not in text:
            continue
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue  # running it says so
        names = _names(tree)
        for node in _in_callbacks(tree, names):
            what = _refused(node, names)
            if what:
                line = text.splitlines()[node.lineno - 1]
                before = line.encode()[: node.col_offset].decode(errors="replace")  # Python counts bytes of UTF-8, an editor letters
                where = Location(str(path), node.lineno, len(before) + 1, line)
                return refused(what, where)
    return None


def _names(tree: ast.Module) -> _Names:
    names = _Names()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.modules |= {alias.asname or alias.name for alias in node.names if alias.name == "pulumi"}
        elif isinstance(node, ast.ImportFrom) and node.module == "pulumi":
            names.members |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, _Function):
            names.functions[node.name] = node
    return names


def _in_callbacks(tree: ast.Module, names: _Names) -> Iterator[ast.Call]:
    """Yield the calls in callbacks, and in the functions of the file that these call."""
    waiting: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "apply":
            callbacks = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "func")]
            waiting += [item.body if isinstance(item, ast.Lambda) else item for item in callbacks]
    seen: set[int] = set()
    while waiting:
        for node in ast.walk(waiting.pop()):
            if isinstance(node, ast.Name) and node.id in names.functions and id(names.functions[node.id]) not in seen:
                seen.add(id(names.functions[node.id]))
                waiting.append(names.functions[node.id])
            elif isinstance(node, ast.Call):
                yield node


def _refused(call: ast.Call, names: _Names) -> str:
    member = names.member(call.func)
    if member == "ResourceOptions":
        asked = (REFUSED_OPTIONS.get(item.arg or "", "") for item in call.keywords if not _is_empty(item.value))
        return next(filter(None, asked), "")
    return REFUSED_CLASSES.get(member, "")


def _is_empty(value: ast.expr) -> bool:
    return (isinstance(value, ast.Constant) and not value.value) or (isinstance(value, ast.List) and not value.elts)
