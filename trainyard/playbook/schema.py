"""What arguments an action takes; checked before anything connects, and again after rendering."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal as OneOf

from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.playbook.values import Condition, ListOf, Literal, MapOf, Value, Variables, boolean, compile_condition, compile_value
from trainyard.yamlfile import Map, Node

Kind = OneOf["text", "name", "bool", "int", "number", "mode", "list", "map", "any", "condition", "sha256", "path"]
_MODE = re.compile(r"^0?[0-7]{3,4}$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of an action."""

    name: str
    kind: Kind = "text"
    required: bool = False
    choices: tuple[str, ...] = ()
    empty: bool = False
    """Whether a path may be empty, which means that it is not given."""


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


Args = Mapping[str, Value | Condition]


def compile_args(schema: Schema, node: Node, where: Location | None) -> Args:
    """Compile and check the arguments as written. Raises UserError at the argument."""
    if not isinstance(node, Map):
        plain = node is not None and (not isinstance(node, list) or schema.free in _conditions(schema))
        if schema.free is None or not plain:
            raise UserError(f"'{schema.action}' takes {_listed(schema)}", where=where)
        return {schema.free: _compile_arg(schema, schema.free, node, where)}
    args: dict[str, Value | Condition] = {}
    known = [arg.name for arg in schema.args]
    for name, item in node.items():
        if not schema.open_ and name not in known:
            raise UserError(f"'{schema.action}' has no argument '{name}'{suggest(name, known)}", where=node.where(name))
        if schema.open_ and not _NAME.match(name):
            raise UserError(f"'{name}' is not a variable name", where=node.where(name))
        args[name] = _compile_arg(schema, name, item, node.where(name, value=True))
    _check_presence(schema, args, where)
    return args


def render_args(schema: Schema, args: Args, variables: Variables) -> dict[str, object]:
    """Render the arguments and check their kinds. Raises UserError at the argument."""
    return {
        name: value if isinstance(value, Condition) else _checked(schema, name, value.render(variables), value.where)
        for name, value in args.items()
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
    if isinstance(value, (MapOf, ListOf)) and _kind(schema, name) not in ("map" if isinstance(value, MapOf) else "list", "any"):
        raise UserError(f"'{name}' of '{schema.action}': expected one value", where=where)
    return value


def _conditions(schema: Schema) -> set[str]:
    return {arg.name for arg in schema.args if arg.kind == "condition"}


def _kind(schema: Schema, name: str) -> Kind:
    return next((arg.kind for arg in schema.args if arg.name == name), "any")


def _checked(schema: Schema, name: str, value: object, where: Location | None) -> object:
    arg = next((arg for arg in schema.args if arg.name == name), Arg(name, "any"))
    try:
        result = _CHECKS[arg.kind](value)
    except ValueError as error:
        raise UserError(f"'{name}' of '{schema.action}': {error}", where=where) from None
    if arg.kind == "path" and not result and not arg.empty:
        raise UserError(f"'{name}' of '{schema.action}': is empty", where=where)
    if arg.choices and result not in arg.choices:
        listed = ", ".join(arg.choices)
        raise UserError(f"'{name}' of '{schema.action}' is one of: {listed}{suggest(str(result), arg.choices)}", where=where)
    return result


def _check_presence(schema: Schema, args: Args, where: Location | None) -> None:
    for name, partner in schema.needs.items():
        if name in args and partner not in args:
            raise UserError(f"'{schema.action}': '{name}' goes with '{partner}'", where=where)
    for arg in schema.args:
        if arg.required and arg.name not in args:
            raise UserError(f"'{schema.action}' needs '{arg.name}'", where=where)
    for group in schema.one_of:
        given = [name for name in group if name in args]
        if len(given) != 1:
            raise UserError(f"'{schema.action}' needs exactly one of: {', '.join(group)}", where=where)


def _listed(schema: Schema) -> str:
    return "arguments: " + ", ".join(arg.name for arg in schema.args) if schema.args else "variables and their values"


def _text(value: object) -> object:
    if isinstance(value, bool) or value is None or isinstance(value, (list, dict)):
        raise ValueError(f"expected text, found {value!r}")
    return value if isinstance(value, str) else str(value)


def _name(value: object) -> object:
    if not isinstance(value, str) or not _NAME.match(value):
        raise ValueError(f"expected a variable name, found {value!r}")
    return value


def _bool(value: object) -> object:
    try:
        return boolean(value, None)
    except UserError as error:
        raise ValueError(error.message) from None


def _int(value: object) -> object:
    if isinstance(value, str) and value.strip().isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, found {value!r}")
    return value


def _number(value: object) -> object:
    if isinstance(value, str):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError(f"expected a number, found {value!r}")
    return value


def _mode(value: object) -> object:
    if not isinstance(value, str) or not _MODE.match(value):
        raise ValueError(f"expected a mode such as 0644, found {value!r}")
    return int(value, 8)


def _list(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {value!r}")
    return value


def _map(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping, found {value!r}")
    return value


def _sha256(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"expected the 64 hex characters of a sha256, found {value!r}")
    return value


_CHECKS: dict[Kind, Callable[[object], object]] = {
    "text": _text, "path": _text, "name": _name, "bool": _bool, "int": _int, "number": _number, "mode": _mode, "list": _list, "map": _map,
    "any": lambda value: value, "condition": lambda value: value, "sha256": _sha256,
}  # fmt: skip
