"""Inventories as INI: sections are groups, ``[group:children]`` and ``[group:vars]`` say what is below them and of them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.playbook.hosts.inventory import UNGROUPED, Inventory
from trainyard.playbook.hosts.ranges import expand
from trainyard.playbook.values import Literal, Value, compile_value
from trainyard.pythontext import parse_python
from trainyard.yamlfile import YamlSource

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:[#;].*)?")


def read(inventory: Inventory, text: str, path: Path) -> None:
    """Add what an INI text says; raises UserError with file:line:col."""
    source = YamlSource(str(path), text)
    take: Callable[[str, Location], None] = lambda line, where: _host(inventory, UNGROUPED, line, where, path)  # noqa: E731
    named: dict[str, Location] = {}
    defined: set[str] = set(inventory.groups)
    for number, raw in enumerate(source.lines, 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        where = source.at(number, len(raw) - len(raw.lstrip()) + 1)
        if not line.startswith("[") or _is_host(line):
            take(line, where)
            continue
        match = _SECTION.fullmatch(line)
        if match is None:
            raise UserError(f"'{line}' is no section", where=where, hint="One is written [group], [group:children] or [group:vars].")
        group, kind = match[1], match[2]
        if kind is None:
            defined.add(group)
        take = _reader(inventory, group, kind, where, path, named)
    for group, where in named.items():
        if group not in defined and not inventory.groups[group].hosts and not inventory.groups[group].children:
            raise UserError(f"there is no group '{group}'", where=where, hint=f"A section [{group}] names its hosts.")


def _is_host(line: str) -> bool:
    """Tell an address of IPv6 in brackets and a range at the beginning of a name from a section."""
    head = line.split()[0]
    return bool(re.match(r"\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\](:\d+)?$|\[\w+:\w+(:\d+)?\][\w.-]", head))


def _reader(
    inventory: Inventory, group: str, kind: str | None, where: Location, path: Path, named: dict[str, Location]
) -> Callable[[str, Location], None]:  # fmt: skip
    inventory.add_group(group)
    match kind:
        case None:
            return lambda line, at: _host(inventory, group, line, at, path)
        case "vars":
            named.setdefault(group, where)
            return lambda line, at: inventory.groups[group].vars.update([_variable(line, at)])
        case "children":

            def child(line: str, at: Location) -> None:
                name = shlex.split(line, comments=True)[0]
                named.setdefault(name, at)
                inventory.add_child(group, name, at)

            return child
    raise UserError(f"a group has ':children' and ':vars', no ':{kind}'", where=where)


def _host(inventory: Inventory, group: str, line: str, where: Location, path: Path) -> None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise UserError(f"the line cannot be read: {error}", where=where) from None
    names, port = expand(words[0], where)
    own: dict[str, Value] = {} if port is None else {"ansible_port": Literal(port, where)}
    for word in words[1:]:
        if "=" not in word:
            raise UserError(f"'{word}' is no NAME=VALUE", where=where, hint="Behind a host stand its variables; each host has a line.")
        own.update([_variable(word, where)])
    for name in names:
        inventory.add_host(name, group, own, path)


def _variable(text: str, where: Location) -> tuple[str, Value]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise UserError(f"'{text}' is no NAME=VALUE", where=where)
    meant = _literal(value.strip())
    return name.strip(), compile_value(meant, where) if isinstance(meant, str) else Literal(meant, where)


def _literal(text: str) -> object:
    """Return what the text is in Python, as Ansible reads it: a number, True, a list; else the text itself."""
    try:
        (statement,) = parse_python(text).body
        return ast.literal_eval(statement.value) if isinstance(statement, ast.Expr) else text
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text
