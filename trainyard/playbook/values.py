"""Values of a playbook: compiled when it is loaded, rendered when they are needed.

A text that is one ``{{ expression }}`` keeps the expression's own type; any other text with Jinja in it
becomes text. Only what stands in a YAML file is ever taken for a template: output of a pod that contains
``{{`` is data. Undefined names are errors with the place of the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2

from trainyard.errors import Location, TrainyardError, UserError
from trainyard.playbook import expressions
from trainyard.playbook.bounds import counted
from trainyard.playbook.expressions import Call, free_names, guarded_in
from trainyard.playbook.natives import OMIT, LazyMap, Written, plain
from trainyard.playbook.natives import Variables as Variables
from trainyard.playbook.vault import Sealed
from trainyard.yamlfile import Map, Node, Seq
from trainyard.yamltags import Unsafe, Vaulted

_YES, _NO = ("1", "true", "yes", "on", "y", "t"), ("0", "false", "no", "off", "n", "f")


@dataclass(frozen=True, slots=True)
class Literal(Written):
    """A value without Jinja."""

    value: object
    where: Location | None = None

    def render(self, variables: Variables) -> object:
        """Return the value."""
        return self.value

    def lazily(self, variables: Variables, open_: tuple[Written, ...]) -> object:
        """Return the value."""
        return self.render(variables)


@dataclass(frozen=True, slots=True)
class Text(Written):
    """A text with Jinja in it."""

    source: str
    where: Location | None
    call: Call = field(repr=False, compare=False)

    def render(self, variables: Variables) -> object:
        """Return what the text means with these variables; raises UserError at its place."""
        return _guarded(lambda: plain(self.call(variables)), self.where)

    def lazily(self, variables: Variables, open_: tuple[Written, ...]) -> object:
        """Return what the text means, which may be something undefined."""
        return _guarded(lambda: self.call(variables, open_), self.where)


@dataclass(frozen=True, slots=True)
class ListOf(Written):
    """A list of values."""

    items: tuple[Value, ...]
    where: Location | None = None

    def render(self, variables: Variables) -> object:
        """Return the list of the rendered items, without those that are omitted."""
        return [value for item in self.items if (value := item.render(variables)) is not OMIT]

    def lazily(self, variables: Variables, open_: tuple[Written, ...]) -> object:
        """Return the list; mappings in it are rendered when they are read."""
        return [item.lazily(variables, open_) for item in self.items]


@dataclass(frozen=True, slots=True)
class MapOf(Written):
    """A mapping of values."""

    items: Mapping[str, Value]
    where: Location | None = None

    def render(self, variables: Variables) -> object:
        """Return the mapping with rendered values, without those that are omitted."""
        return {key: value for key, item in self.items.items() if (value := item.render(variables)) is not OMIT}

    def lazily(self, variables: Variables, open_: tuple[Written, ...]) -> object:
        """Return a mapping that renders a value when it is read."""
        # Not this mapping itself is open then: one of its values may well read another one of it.
        return LazyMap(self.items, variables, tuple(one for one in open_ if one is not self))


Value = Literal | Text | ListOf | MapOf | Sealed


@dataclass(frozen=True, slots=True)
class Condition:
    """A bare Jinja expression (or several, all of which must hold)."""

    sources: tuple[str, ...]
    where: tuple[Location | None, ...]
    calls: tuple[Call, ...] = field(repr=False, compare=False)

    def holds(self, variables: Variables) -> bool:
        """Return whether all hold. A result that is not true or false is an error, not truth."""
        return all(self.each(variables))

    def each(self, variables: Variables) -> Iterator[bool]:
        """Yield the outcome of each expression in turn."""
        for source, where, call in zip(self.sources, self.where, self.calls, strict=True):
            result = _guarded(lambda call=call: plain(call(variables)), where)  # type: ignore[misc]
            if not isinstance(result, bool):
                hint = ": write '... | bool'" if isinstance(result, (str, int)) else ""
                raise UserError(f"the condition '{source}' is {result!r}, which is neither true nor false{hint}", where=where)
            yield result


def compile_value(node: Node, where: Location | None) -> Value:
    """Compile a YAML node. Raises UserError for broken Jinja at its place."""
    if isinstance(node, Map):
        return MapOf({key: compile_value(item, node.where(key, value=True)) for key, item in node.items()}, where)
    if isinstance(node, Seq):
        return ListOf(tuple(compile_value(item, node.where(index)) for index, item in enumerate(node)), where)
    if isinstance(node, Vaulted):
        return Sealed(node, where)
    if not isinstance(node, str) or isinstance(node, Unsafe) or not any(mark in node for mark in expressions.MARKS):
        return Literal(node, where)
    return Text(node, where, _compiled(lambda: expressions.template(node), where))


def rendered(value: object, variables: Variables) -> object:
    """Return a variable's value: rendered if it stands in a YAML file, else as it is."""
    return value.render(variables) if isinstance(value, (Literal, Text, ListOf, MapOf)) else value


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
    if not isinstance(node, str) or not node.strip():
        raise UserError("expected a condition: an expression, true, false, or a list of them", where=where)
    source, call = node.strip(), expressions.expression
    if "{{" in source or "{%" in source:
        inner = _compiled(lambda: expressions.in_braces(source), where)
        if inner is None:
            raise UserError("a condition is a bare expression: leave out the braces", where=where)
        source, call = inner.strip(), expressions.indirect
    return Condition((source,), (where,), (_compiled(lambda: call(source), where),))


def evaluate(source: str, variables: Variables, where: Location | None = None) -> Any:
    """Return what an expression is, something undefined as jinja2.Undefined."""
    result = _guarded(lambda: _compiled(lambda: expressions.expression(source), where)(variables), where)
    return result if isinstance(result, jinja2.Undefined) else plain(result)


def look_up(lookup: str, terms: object, variables: Variables, where: Location | None) -> list[Any]:
    """Return the items of ``with_LOOKUP: terms``."""
    known = terms if isinstance(terms, list) else [terms]
    hits = _guarded(lambda: plain(expressions.look_up(lookup, known, variables, repeats=True)), where)
    assert isinstance(hits, list)
    return hits


def names_in(value: Value | Condition) -> Iterator[tuple[str, Location | None]]:
    """Yield each variable that a value reads, with the place, but those it reads only to see whether they exist."""
    for source, where in _sources(value):
        yield from ((name, where) for name in free_names(source))


def guarded_names(value: Value | Condition) -> set[str]:
    """Return the variables that a value tests with ``is defined`` or gives a ``default``."""
    return {name for source, _ in _sources(value) for name in guarded_in(source)}


def _sources(value: Value | Condition) -> Iterator[tuple[str, Location | None]]:
    if isinstance(value, Condition):
        yield from (("{{ " + source + " }}", where) for source, where in zip(value.sources, value.where, strict=True))
    elif isinstance(value, Text):
        yield value.source, value.where
    elif isinstance(value, (ListOf, MapOf)):
        for item in value.items if isinstance(value, ListOf) else value.items.values():
            yield from _sources(item)


def boolean(value: object, where: Location | None) -> bool:
    """Return true or false as Ansible reads them; raises UserError for anything else."""
    text = str(value).strip().lower() if isinstance(value, (str, bool, int)) else None
    if text in _YES or text in _NO:
        return text in _YES
    raise UserError(f"expected true or false, found {value!r}", where=where)


def _compiled(build: Callable[[], Any], where: Location | None) -> Any:
    try:
        return build()
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"broken expression: {error.message}", where=_line_in(where, error.lineno)) from None
    except RecursionError:
        raise UserError("broken expression: nested too deeply", where=where) from None


def _guarded(call: Callable[[], object], where: Location | None) -> object:
    try:
        with counted():
            return call()
    except jinja2.UndefinedError as error:
        raise UserError(str(error.message), where=where) from None
    except UserError as error:
        raise (error if error.where is not None else UserError(error.message, where=where)) from None
    except TrainyardError:
        raise
    except MemoryError:
        raise UserError("the expression cannot be evaluated: it makes more than fits into the memory", where=where) from None
    except Exception as error:  # filters are code of anybody's: whatever they raise is about this value
        raise UserError(f"the expression cannot be evaluated: {str(error) or type(error).__name__}", where=where) from None


def _line_in(where: Location | None, line: int) -> Location | None:
    """Return the place of a line of a text; that of a block scalar begins below its ``|``."""
    if where is None or where.text is None:
        return where
    block = where.text[where.column - 1 :].startswith(("|", ">"))
    return Location(where.file, where.line + line - (0 if block else 1)) if block or line > 1 else where
