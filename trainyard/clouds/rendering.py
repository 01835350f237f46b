"""A create request as a file that a person reads and edits: what a cloud can do for that, and the file's three forms.

Which file it is, and which of its fields say what a setting says, stands in the cloud's row (settings/clouds.py). Makes no request.
"""

from __future__ import annotations

import ast
import io
import json
import math
import pprint
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol, runtime_checkable

from trainyard import yamlfile
from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.errors import Location, UserError
from trainyard.pythontext import parse_python
from trainyard.yamlfile import MOST_DIGITS, Map, Node, Seq, YamlSource, too_long

PROGRAM = "program"
"""Member of a document that is no field: the text behind the fields, of a form that is a program."""
_OPTION = "#SBATCH "
_NUMBER = re.compile(rf"[0-9_]{{{MOST_DIGITS + 1},}}")


def reference(name: str) -> str:
    """Return how a value is written that only a run knows."""
    bare = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_").removeprefix("TRAINYARD_")
    return "${TRAINYARD_" + (bare or "VALUE") + "}"


BID = reference("bid")
"""Stands for what is bid for a machine: the market's price in the moment of asking."""


@runtime_checkable
class Renders(Protocol):
    """A cloud whose create request can be read before it is sent."""

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> Mapping[str, object]:
        """Return what create() would send at a moment, by the code that sends it; raises as create() does, and creates nothing."""
        ...


def text_of(file: str, document: Mapping[str, object]) -> str:
    """Return a document in the form of its file: JSON, a program for Python, or a batch script."""
    fields = {name: value for name, value in document.items() if name != PROGRAM}
    program = str(document.get(PROGRAM, ""))
    if file.endswith(".py"):
        return "".join(f"{name} = {pprint.pformat(value, width=120, sort_dicts=False)}\n" for name, value in fields.items()) + program
    if file.endswith(".sbatch"):
        shell, _, rest = program.partition("\n")
        options = "".join(f"{_OPTION}{name}{f'={value}' if value else ''}\n" for name, value in fields.items())
        return f"{shell}\n{options}{rest}"
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def parse(text: str, name: str) -> Map:
    """Return what text_of() has written, each field with its place; raises UserError for what it cannot have."""
    if name.endswith(".py"):
        return _program(text, name)
    if name.endswith(".sbatch"):
        return _batch(text, name)
    return yamlfile.parse_map(text, name)


def _program(text: str, name: str) -> Map:
    """Read the constants at a program's beginning; the rest is one text."""
    try:
        statements = _in_letters(parse_python(text), text).body
    except (SyntaxError, ValueError) as error:
        where = YamlSource(name, text).at(getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1)
        if (number := _NUMBER.search(where.text or "")) is not None:
            raise too_long(len(number[0]), replace(where, column=number.start() + 1)) from None
        raise UserError(f"this is no program for Python: {getattr(error, 'msg', error)}", where=where) from None
    except (RecursionError, MemoryError):  # which of them is Python's affair
        raise UserError("nested too deeply to be read", where=Location(name, 1)) from None
    source, rest = YamlSource(name, text), 0
    fields_read = _map(source, (1, 1))
    for statement in statements:
        if statement.lineno <= rest:
            raise UserError("one constant a line: what stands behind it would be lost", where=source.at(*_place(statement)))
        target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
        if not isinstance(statement, ast.Assign) or not isinstance(target, ast.Name) or target.id == PROGRAM:
            break
        _take(fields_read, target.id, _place(statement), _place(statement.value), _literal(statement.value, source))
        rest = statement.end_lineno or 0
    _take(fields_read, PROGRAM, (rest + 1, 1), (rest + 1, 1), "".join(_lines(text)[rest:]))
    return fields_read


def _in_letters(tree: ast.Module, text: str) -> ast.Module:
    """Let columns be letters, as a person's editor counts: Python's are bytes of UTF-8."""
    lines = [line.encode() for line in _lines(text)]
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.stmt):
            node.col_offset = len(lines[node.lineno - 1][: node.col_offset].decode())
    return tree


def _lines(text: str) -> list[str]:
    """Return lines as Python cuts them: a form feed, say, ends none."""
    return list(io.StringIO(text, newline=""))


def _literal(node: ast.expr, source: YamlSource) -> Node:
    if isinstance(node, ast.Dict):
        fields_read = _map(source, _place(node))
        for key, value in zip(node.keys, node.values, strict=True):
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                raise UserError("a name must be a plain text", where=source.at(*_place(key or node)))
            _take(fields_read, key.value, _place(key), _place(value), _literal(value, source))
        return fields_read
    if isinstance(node, (ast.List, ast.Tuple)):
        listed = Seq()
        listed.source = source
        for item in node.elts:
            listed.item_marks.append(_place(item))
            listed.append(_literal(item, source))
        return listed
    try:
        constant = ast.literal_eval(node)
    except ValueError:
        constant = b""
    if constant is not None and not isinstance(constant, (str, int, float, bool)):
        raise UserError("a value here must be a plain one: a text, a number, a list or a dict", where=source.at(*_place(node)))
    if isinstance(constant, str) and any("\ud800" <= letter <= "\udfff" for letter in constant):
        raise UserError("half a surrogate pair stands for no letter", where=source.at(*_place(node)))
    if isinstance(constant, int) and abs(constant) >= 10**MOST_DIGITS:
        raise too_long(math.ceil(constant.bit_length() * math.log10(2)), source.at(*_place(node)))
    return constant


def _batch(text: str, name: str) -> Map:
    """Read a batch script's options; the rest is one text, which begins behind them as far as places go."""
    source, rest = YamlSource(name, text), []
    fields_read = _map(source, (1, 1))
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.startswith(_OPTION):
            rest.append(line)
            continue
        option, _, value = line.removeprefix(_OPTION).strip().partition("=")
        begin = len(_OPTION) + 1
        _take(fields_read, option, (number, begin), (number, begin + len(option) + 1), value)
    _take(fields_read, PROGRAM, (len(fields_read) + 1, 1), (len(fields_read) + 1, 1), "".join(rest))
    return fields_read


def _take(fields_read: Map, name: str, at: tuple[int, int], value_at: tuple[int, int], value: Node) -> None:
    """Take a field with its places; raises UserError for one that is there already."""
    if name in fields_read:
        where = fields_read.source.at(*at) if fields_read.source else None
        raise UserError(f"'{name}' is given twice (first in line {fields_read.key_marks[name][0]})", where=where)
    fields_read.key_marks[name], fields_read.value_marks[name] = at, value_at
    fields_read[name] = value


def _map(source: YamlSource, mark: tuple[int, int]) -> Map:
    fields_read = Map()
    fields_read.source, fields_read.mark = source, mark
    return fields_read


def _place(node: ast.expr | ast.stmt) -> tuple[int, int]:
    return node.lineno, node.col_offset + 1


Leaf = tuple[Node, Location | None]


def leaves(node: Node, path: tuple[str, ...] = (), where: Location | None = None) -> dict[tuple[str, ...], Leaf]:
    """Return every value of a document by the names that lead to it, an empty list or map, too; variables in a list as in a map."""
    items: list[tuple[str, Node, Location | None]]
    if isinstance(node, Mapping):
        at = node.where if isinstance(node, Map) else None
        items = [(name, value, at(name, value=True) if at else None) for name, value in node.items()]
    elif isinstance(node, (list, tuple)):
        items = [_item(value, index, node.where(index) if isinstance(node, Seq) else None) for index, value in enumerate(node)]
    else:
        return {path: (node, where)}
    if not items and path:
        return {path: (node, where)}
    return {key: leaf for name, value, at in items for key, leaf in leaves(value, (*path, name), at).items()}


def _item(value: Node, index: int, where: Location | None) -> tuple[str, Node, Location | None]:
    if isinstance(value, Mapping) and set(value) == {"key", "value"}:
        return str(value["key"]), value["value"], value.where("value", value=True) if isinstance(value, Map) else None
    return str(index), value, where
