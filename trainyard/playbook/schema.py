"""What arguments an action takes; checked before anything connects, and again after rendering."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal as OneOf

from trainyard.errors import Location, UserError, together
from trainyard.nearest import suggest
from trainyard.playbook.expressions import ended
from trainyard.playbook.natives import OMIT
from trainyard.playbook.values import Condition, ListOf, Literal, MapOf, Text, Value, Variables, boolean, compile_condition, compile_value
from trainyard.reading import Shape, display, not_one_of, read
from trainyard.yamlfile import Map, Node
from trainyard.yamltags import Octal

Kind = OneOf["text", "name", "bool", "int", "number", "mode", "list", "map", "any", "condition", "sha256", "path", "words"]
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_CLAUSE = r"[ugoa]*([-+=]([rwxXst]*|[ugo]))+"
"""One part of a mode as chmod reads it."""


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of an action."""

    name: str
    kind: Kind = "text"
    required: bool = False
    choices: tuple[str, ...] = ()
    empty: bool = False
    """Whether a path may be empty, which means that it is not given."""
    aliases: tuple[str, ...] = ()
    """Other names of it."""
    local: OneOf["", "files", "templates", "vars"] = ""
    """Of a path of this machine: the folder of a role or a playbook in which it is looked for, too."""
    ends: bool = False
    """Whether the end of its line belongs to it, though what stands in the line be a number."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The arguments of one action. ``free`` takes a plain text after the action's name; ``open_`` takes any names."""

    action: str
    args: tuple[Arg, ...] = ()
    free: str | None = None
    open_: bool = False
    one_of: tuple[tuple[str, ...], ...] = ()
    """Of each group exactly one must be given."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Argument -> the argument that it goes with."""
    again: OneOf["", "reads", "writes"] = ""
    """Whether it may be done a second time when the answer of the first was lost: it only reads, or it comes to the same."""
    reads: frozenset[str] = frozenset()
    """Arguments with which an action that writes only reads."""
    does: str = ""
    """What the action does, in a line of the documentation."""


Args = Mapping[str, Value | Condition]


def compile_args(schema: Schema, node: Node, where: Location | None) -> Args:
    """Compile and check the arguments as written. Raises UserError at each argument that is wrong."""
    if node is None and schema.free is None and not any(arg.required for arg in schema.args):
        node = Map()
    if not isinstance(node, Map):
        plain = node is not None and (not isinstance(node, list) or schema.free in _conditions(schema))
        if schema.free is None or not plain:
            raise UserError(f"'{schema.action}' takes {_listed(schema)}", where=where)
        return {schema.free: _compile_arg(schema, schema.free, node, where)}
    args: dict[str, Value | Condition] = {}
    known = {name: arg.name for arg in schema.args for name in (arg.name, *arg.aliases)}
    wrong: list[UserError] = []
    for written, item in node.items():
        name = known.get(written, written)
        try:
            if name in args:
                raise UserError(f"'{schema.action}': '{written}' is given twice, by two of its names", where=node.where(written))
            if schema.open_ and not _NAME.match(written):
                raise UserError(f"'{written}' is not a variable name", where=node.where(written))
            if not schema.open_ and written not in known:
                raise UserError(f"'{schema.action}' has no argument '{written}'{suggest(written, known)}", where=node.where(written))
            args[name] = _compile_arg(schema, name, item, node.where(written, value=True))
        except UserError as error:
            wrong.append(error)
    if not wrong:
        _check_presence(schema, args, where)
        return args
    raise together(wrong, "arguments")


def render_args(schema: Schema, args: Args, variables: Variables) -> dict[str, object]:
    """Render the arguments and check their kinds. Raises UserError at the argument."""
    rendered = {name: value if isinstance(value, Condition) else value.render(variables) for name, value in args.items()}
    for arg in schema.args:
        value, source = rendered.get(arg.name), args.get(arg.name)
        if arg.ends and isinstance(value, (int, float)) and isinstance(source, Text):
            rendered[arg.name] = ended(source.source, str(value))
    return {
        name: value if isinstance(value, Condition) else _checked(schema, name, value, args[name].where)  # type: ignore[arg-type]
        for name, value in rendered.items()
        if value is not OMIT
    }


def text_or_none(args: Mapping[str, object], name: str) -> str | None:
    """Return a rendered argument as text, None when it was not given."""
    value = args.get(name)
    return None if value is None else str(value)


def _compile_arg(schema: Schema, name: str, node: Node, where: Location | None) -> Value | Condition:
    """Compile one argument and check it as far as that is possible before it is rendered."""
    if name in _conditions(schema):
        return compile_condition(node, where)
    value = compile_value(node, where)
    if isinstance(value, Literal):
        _checked(schema, name, value.value, where)
    if isinstance(value, (MapOf, ListOf)) and _kind(schema, name) not in _HOLDS[type(value)]:
        raise UserError(f"'{name}' of '{schema.action}': expected one value", where=where)
    return value


def _conditions(schema: Schema) -> set[str]:
    return {arg.name for arg in schema.args if arg.kind == "condition"}


def _kind(schema: Schema, name: str) -> Kind:
    return next((arg.kind for arg in schema.args if arg.name == name), "any")


def _checked(schema: Schema, name: str, value: object, where: Location | None) -> object:
    arg = next((arg for arg in schema.args if arg.name == name), Arg(name, "any"))
    subject = f"'{name}' of '{schema.action}'"
    try:
        result = _typed(arg.kind, value, subject)
        if wrong := not_one_of(arg.choices, result):
            raise UserError(f"{subject} {wrong}")
    except UserError as error:
        raise UserError(error.message, where=where) from None
    if arg.kind == "path" and not result and not arg.empty:
        raise UserError(f"{subject}: is empty", where=where)
    return result


def _typed(kind: Kind, value: object, subject: str) -> object:
    if kind in ("any", "condition"):
        return value
    if kind == "bool":
        try:
            return boolean(value, None)
        except UserError as error:
            raise UserError(f"{subject}: {error.message}") from None
    if kind == "words":
        return _words(value, subject)
    if kind == "mode" and isinstance(value, Octal):
        value = value.written
    if kind in _AS_WRITTEN and not isinstance(value, str):
        raise UserError(f"{subject} must be {_SHAPES[kind].looks_like}, not {display(value)}")
    return read(_SHAPES[kind], value, subject)


def _words(value: object, subject: str) -> list[str]:
    """Return a list of texts; a plain text is one whose items stand between commas."""
    if value is None:
        return []
    items = value if isinstance(value, list) else str(value).split(",") if isinstance(value, (str, int, float)) else None
    if items is None or any(not isinstance(item, (str, int, float)) or isinstance(item, bool) for item in items):
        raise UserError(f"{subject} must be a text or a list of texts, not {display(value)}")
    return [text for item in items if (text := str(item).strip())]


def _check_presence(schema: Schema, args: Args, where: Location | None) -> None:
    for name, partner in schema.needs.items():
        if name in args and partner not in args:
            raise UserError(f"'{schema.action}': '{name}' goes with '{partner}'", where=where)
    for arg in schema.args:
        if arg.required and arg.name not in args:
            raise UserError(f"'{schema.action}' needs '{arg.name}'", where=where)
    for group in schema.one_of:
        present = [name for name in group if name in args]
        if len(present) != 1:
            raise UserError(f"'{schema.action}' needs exactly one of: {', '.join(group)}", where=where)


def _listed(schema: Schema) -> str:
    return "arguments: " + ", ".join(arg.name for arg in schema.args) if schema.args else "variables and their values"


MOST = 1_000_000_000
"""Nobody waits for longer, nor tries more often: in seconds, that is 30 years."""
_SHAPES: Mapping[Kind, Shape] = {
    "text": Shape(kind="text", empty=True),
    "path": Shape(kind="text", empty=True),
    "name": Shape(kind="text", pattern=_NAME.pattern, looks_like="a variable's name"),
    "int": Shape(kind="whole"),
    "number": Shape(kind="number", least=0, most=MOST),
    "mode": Shape(
        kind="text",
        pattern=rf"0?[0-7]{{3,4}}|preserve|{_CLAUSE}(,{_CLAUSE})*",
        looks_like="a mode such as 0644 or u=rwX,go=r",
    ),
    "list": Shape(kind="list"),
    "map": Shape(kind="map"),
    "sha256": Shape(kind="text", pattern=r"[0-9a-f]{64}", looks_like="the 64 hex characters of a sha256"),
}
_HOLDS: Mapping[type, tuple[Kind, ...]] = {MapOf: ("map", "any"), ListOf: ("list", "words", "any")}
_AS_WRITTEN = ("name", "mode", "sha256")
"""Kinds of which a number is none, whatever its digits are: YAML has read 0644 and 644 each in its own way."""
