"""Values of a playbook: compiled when it is loaded, rendered when they are needed.

A text that is one ``{{ expression }}`` keeps the expression's own type; any other text with Jinja in it
becomes text. Only what stands in a YAML file is ever taken for a template: output of a pod that contains
``{{`` is data. Undefined names are errors with the place of the value.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes

from trainyard import templating
from trainyard.clock import parse_time
from trainyard.errors import Location, TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.yamlfile import Map, Node, Seq

Variables = Mapping[str, object]
_COMPILED = 1024
"""So many texts are compiled once only: a worker loads the same playbook for every run, and a playbook says most of its words twice."""
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Literal:
    """A value without Jinja."""

    value: object
    where: Location | None = None

    def render(self, variables: Variables) -> object:
        """Return the value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Text:
    """A text with Jinja in it."""

    source: str
    where: Location | None
    call: Callable[[Variables], object] = field(repr=False, compare=False)

    def render(self, variables: Variables) -> object:
        """Return what the text means with these variables; raises UserError at its place."""
        return _guarded(lambda: self.call(variables), self.where)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of values."""

    items: tuple[Value, ...]
    where: Location | None = None

    def render(self, variables: Variables) -> object:
        """Return the list of the rendered items."""
        return [item.render(variables) for item in self.items]


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping of values."""

    items: Mapping[str, Value]
    where: Location | None = None

    def render(self, variables: Variables) -> object:
        """Return the mapping with rendered values."""
        return {key: value.render(variables) for key, value in self.items.items()}


Value = Literal | Text | ListOf | MapOf


@dataclass(frozen=True, slots=True)
class Condition:
    """A bare Jinja expression (or several, all of which must hold)."""

    sources: tuple[str, ...]
    where: tuple[Location | None, ...]
    calls: tuple[Callable[[Variables], object], ...] = field(repr=False, compare=False)

    def holds(self, variables: Variables) -> bool:
        """Return whether all hold. A result that is not true or false is an error, not truth."""
        return all(self.each(variables))

    def each(self, variables: Variables) -> Iterator[bool]:
        """Yield the outcome of each expression in turn."""
        for source, where, call in zip(self.sources, self.where, self.calls, strict=True):
            result = _guarded(lambda call=call: call(variables), where)  # type: ignore[misc]
            if not isinstance(result, bool):
                raise UserError(f"the condition '{source}' is {result!r}, which is neither true nor false", where=where)
            yield result


def compile_value(node: Node, where: Location | None) -> Value:
    """Compile a YAML node. Raises UserError for broken Jinja at its place."""
    if isinstance(node, Map):
        return MapOf({key: compile_value(item, node.where(key, value=True)) for key, item in node.items()}, where)
    if isinstance(node, Seq):
        return ListOf(tuple(compile_value(item, node.where(index)) for index, item in enumerate(node)), where)
    if not isinstance(node, str) or not any(mark in node for mark in ("{{", "{%", "{#")):
        return Literal(node, where)
    return Text(node, where, _compiled(lambda: _template(node), where))


def compile_condition(node: Node, where: Location | None) -> Condition:
    """Compile ``when`` and its like: true, false, an expression, or a list of them."""
    if isinstance(node, Seq):
        parts = [compile_condition(item, node.where(index)) for index, item in enumerate(node)]
        return Condition(
            tuple(source for part in parts for source in part.sources),
            tuple(place for part in parts for place in part.where),
            tuple(call for part in parts for call in part.calls),
        )
    if isinstance(node, bool):
        return Condition((str(node).lower(),), (where,), (lambda variables: node,))
    if not isinstance(node, str):
        raise UserError("expected a condition: an expression, true, false, or a list of them", where=where)
    if "{{" in node or "{%" in node:
        raise UserError("a condition is a bare expression: leave out the braces", where=where)
    return Condition((node,), (where,), (_compiled(lambda: _expression(node), where),))


def names_in(value: Value | Condition) -> Iterator[tuple[str, Location | None]]:
    """Yield each variable that a value reads, with the place, but those it reads only to see whether they exist."""
    if isinstance(value, Condition):
        for source, where in zip(value.sources, value.where, strict=True):
            yield from ((name, where) for name in _free_names("{{ " + source + " }}"))
    elif isinstance(value, Text):
        yield from ((name, value.where) for name in _free_names(value.source))
    elif isinstance(value, (ListOf, MapOf)):
        for item in value.items if isinstance(value, ListOf) else value.items.values():
            yield from names_in(item)


def guarded_names(value: Value | Condition) -> set[str]:
    """Return the variables that a value tests with ``is defined`` or gives a ``default``."""
    if isinstance(value, (ListOf, MapOf)):
        items = value.items if isinstance(value, ListOf) else value.items.values()
        return {name for item in items for name in guarded_names(item)}
    sources = ["{{ " + source + " }}" for source in value.sources] if isinstance(value, Condition) else []
    sources += [value.source] if isinstance(value, Text) else []
    return {name for source in sources for name in _guarded_in(jinja_environment().parse(source))}


@cache
def jinja_environment() -> jinja2.Environment:
    """Return the Jinja environment of playbooks: that of all templates here, lazy variables, a few more filters."""
    env = templating.environment()
    env.context_class = _LazyContext
    env.undefined = _Undefined
    env.filters.update(_FILTERS)
    env.tests.update(_TESTS)
    return env


class _Undefined(jinja2.StrictUndefined):
    """What is not there; of a task that was skipped its result says why."""

    @property
    def _undefined_message(self) -> str:
        result = self._undefined_obj
        if isinstance(result, Mapping) and result.get("skipped") and "msg" in result:
            return f"there is no '{self._undefined_name}': the task that registers it was skipped ({result['msg']})"
        return str(super()._undefined_message)


class _LazyContext(jinja2.runtime.Context):
    """Variables of the playbook are rendered when they are read, so that their order does not matter."""

    def resolve_or_missing(self, key: str) -> Any:
        """Return the variable, rendered if it stands in a YAML file."""
        resolved = super().resolve_or_missing(key)
        if not isinstance(resolved, (Literal, Text, ListOf, MapOf)):
            return resolved
        variables = self.get_all()
        if key in (open_ := variables.get("__open__", ())):
            raise UserError(f"the variable '{key}' is defined by itself", where=resolved.where)
        return resolved.render({**variables, "__open__": (*open_, key)})


@lru_cache(_COMPILED)
def _expression(source: str) -> Callable[[Variables], object]:
    compiled = jinja_environment().compile_expression(source, undefined_to_none=False)

    def call(variables: Variables) -> object:
        result = compiled(**variables)
        if isinstance(result, jinja2.Undefined):
            str(result)  # a strict Undefined raises here, with its own words
        return result

    return call


@lru_cache(_COMPILED)
def _template(source: str) -> Callable[[Variables], object]:
    """Compile a text; one that is a single expression to its last character keeps the expression's own type."""
    if source.startswith("{{") and source.endswith("}}"):
        body = jinja_environment().parse(source).body
        output = body[0] if len(body) == 1 else None
        if isinstance(output, nodes.Output) and len(output.nodes) == 1 and not isinstance(output.nodes[0], nodes.TemplateData):
            return _expression(source[2:-2].strip("-+"))
    return jinja_environment().from_string(source).render


def boolean(value: object, where: Location | None) -> bool:
    """Return true or false as Ansible reads them; raises UserError for anything else."""
    text = str(value).strip().lower() if isinstance(value, (str, bool)) else None
    if text in _YES or text in _NO:
        return text in _YES
    raise UserError(f"expected true or false, found {value!r}", where=where)


def _compiled(build: Callable[[], Callable[[Variables], object]], where: Location | None) -> Callable[[Variables], object]:
    try:
        return build()
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"broken expression: {error.message}", where=_line_in(where, error.lineno)) from None


def _guarded(call: Callable[[], object], where: Location | None) -> object:
    try:
        return call()
    except jinja2.UndefinedError as error:
        raise UserError(str(error.message), where=where) from None
    except TrainyardError:
        raise
    except Exception as error:  # filters are code of anybody's: whatever they raise is about this value
        raise UserError(f"the expression cannot be evaluated: {error or type(error).__name__}", where=where) from None


def _line_in(where: Location | None, line: int) -> Location | None:
    """Return the place of a line of a text; that of a block scalar begins below its ``|``."""
    if where is None or where.text is None:
        return where
    block = where.text[where.column - 1 :].startswith(("|", ">"))
    return Location(where.file, where.line + line - (0 if block else 1)) if block or line > 1 else where


@lru_cache(_COMPILED)
def _free_names(source: str) -> frozenset[str]:
    tree = jinja_environment().parse(source)
    return frozenset(meta.find_undeclared_variables(tree) - _guarded_in(tree) - set(jinja_environment().globals))


def _guarded_in(tree: nodes.Template) -> set[str]:
    tests = (node.node for node in tree.find_all(nodes.Test) if node.name in ("defined", "undefined"))
    filters = (node.node for node in tree.find_all(nodes.Filter) if node.name in ("default", "d"))
    return {name for node in (*tests, *filters) if (name := _root_name(node)) is not None}


def _root_name(node: nodes.Node | None) -> str | None:
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None


def _to_bool(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _YES
    return bool(value)


def _epoch(text: str) -> int:
    """Return a moment written as 2026-11-24T03:00:00Z in seconds."""
    moment = parse_time(text)
    if moment is None:
        raise ValueError(f"'{text}' is no moment like 2026-11-24T03:00:00Z")
    return round(moment.timestamp())


def _regex_search(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[0] if match else ""


def _is(key: str, expected: bool = True) -> Callable[[object], bool]:
    def test(result: object) -> bool:
        if not isinstance(result, Mapping):
            raise TypeError("this test is for the result of a task")
        return bool(result.get(key, False)) is expected

    return test


_FILTERS: dict[str, Callable[..., Any]] = {
    "basename": posixpath.basename,
    "dirname": posixpath.dirname,
    "bool": _to_bool,
    "epoch": _epoch,
    "from_json": parse_json,
    "to_json": lambda value: json.dumps(value, ensure_ascii=False),
    "regex_search": _regex_search,
    "regex_replace": lambda text, pattern, by="": re.sub(pattern, by, text),
}
_TESTS: dict[str, Callable[..., bool]] = {
    "failed": _is("failed"),
    "succeeded": _is("failed", False),
    "success": _is("failed", False),
    "changed": _is("changed"),
    "skipped": _is("skipped"),
    "match": lambda text, pattern: re.match(pattern, text) is not None,
    "search": lambda text, pattern: re.search(pattern, text) is not None,
}
