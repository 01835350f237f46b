"""The Jinja of playbooks: native types, names that are undefined in a chain, variables rendered when they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import lexer
from jinja2.utils import missing

from trainyard.errors import UserError
from trainyard.playbook.bounds import BoundedEnvironment, BoundedGenerator, check_filter, joined, listed
from trainyard.playbook.natives import OMIT, LazyMap, Unread, Written, plain


class Undefined(jinja2.StrictUndefined):
    """What is not there, nor is anything below it; of a task that was skipped its result says why."""

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> Any:
        return self

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self

    @property
    def _undefined_message(self) -> str:
        result = self._undefined_obj
        if isinstance(result, Mapping) and result.get("skipped") and "msg" in result:
            return f"there is no '{self._undefined_name}': the task that registers it was skipped ({result['msg']})"
        return str(super()._undefined_message)


class LazyContext(jinja2.runtime.Context):
    """Variables of the playbook are rendered when they are read, so that their order does not matter."""

    open_: tuple[Written, ...] = ()

    def resolve_or_missing(self, key: str) -> Any:
        """Return the variable, rendered if it stands in a YAML file."""
        hits = super().resolve_or_missing(key)
        if hits is missing:
            if key == "vars":
                return LazyMap(dict(self.get_all()), self.get_all(), self.open_)
            return self.environment.globals.get(key, hits)
        if not isinstance(hits, Written):
            return hits
        if any(hits is one for one in self.open_):
            raise UserError(f"the variable '{key}' is defined by itself", where=hits.where)
        return hits.lazily(self.get_all(), (*self.open_, hits))


class _Generator(BoundedGenerator):
    """Keeps the type of a constant that is the whole of a text."""

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        parts = list(group)
        return repr(parts[0]) if len(parts) == 1 else repr("".join(map(str, parts)))


class PlaybookJinja(BoundedEnvironment):
    """The environment of playbooks."""

    context_class = LazyContext
    code_generator_class = _Generator
    backslashes = False
    """Whether a backslash between quotes is nothing but a backslash."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item; keys of mappings that stand in a file are texts, whatever they look like."""
        if isinstance(obj, dict) and type(argument) is int and argument not in obj and str(argument) in obj:
            return obj[str(argument)]
        return super().getitem(obj, argument)

    def _tokenize(self, source: str, name: str | None, filename: str | None = None, state: str | None = None) -> Any:
        tokens = self.lexer.tokeniter(source, name, filename, state)
        tokens = _doubled(tokens) if self.backslashes else _known_escapes(tokens)
        return lexer.TokenStream(self.lexer.wrap(tokens, name, filename), name, filename)


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _known_escapes(tokens: Iterator[tuple[int, str, str]]) -> Iterator[tuple[int, str, str]]:
    r"""Keep the backslash of what is no escape of Python's, like ``\d``: Jinja does so too, and lets Python warn of it."""
    for line, kind, text in tokens:
        if kind == lexer.TOKEN_STRING:
            text = _ESCAPE.sub(lambda match: match[0] if match[1] in "\\'\"abfnrtvxuUN01234567\n" else "\\" + match[0], text)
        yield line, kind, text


def _doubled(tokens: Iterator[tuple[int, str, str]]) -> Iterator[tuple[int, str, str]]:
    inside = False
    for line, kind, text in tokens:
        if kind in (lexer.TOKEN_VARIABLE_BEGIN, lexer.TOKEN_VARIABLE_END):
            inside = kind == lexer.TOKEN_VARIABLE_BEGIN
        yield line, kind, text.replace("\\", "\\\\") if inside and kind == lexer.TOKEN_STRING else text


@jinja2.pass_context
def finalized(context: LazyContext, value: object) -> object:
    """Return the value as it is: that it asks for a context keeps Jinja from making texts of constants."""
    return value


@jinja2.pass_context
def finalized_here(context: LazyContext, value: object) -> object:
    """Return the value, unless it is undefined: raised here, that has a line of its template."""
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    return value


def concat(parts: Iterable[Any]) -> Any:
    """Return a single part as it is, several as one text; None and what is omitted are nothing beside others."""
    hits = [part for part in parts if part is not None]
    if len(hits) == 1:
        return hits[0]
    return joined(plain(part) if isinstance(part, (list, tuple, dict)) else part for part in hits if part is not OMIT) if hits else None


_PASSED = (jinja2.Environment, jinja2.runtime.Context, jinja2.nodes.EvalContext)
"""What some filters get before the value."""


def through(name: str, filter_: Callable[..., Any], all_of_it: bool) -> Callable[..., Any]:
    """Let what is undefined pass a filter, so that a ``default`` behind it counts; what a filter yields becomes a list.

    ``all_of_it``: nothing that it gets is rendered only when it is read.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, jinja2.Undefined):
                return value
        if all_of_it:
            args = tuple(value if isinstance(value, (jinja2.Environment, range, Unread)) else plain(value) for value in args)
        check_filter(name, args[1:] if args and isinstance(args[0], _PASSED) else args, kwargs)
        result = filter_(*args, **kwargs)
        return listed(result) if isinstance(result, Iterator) else result

    call.__dict__.update(getattr(filter_, "__dict__", {}))
    return call
