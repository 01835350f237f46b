"""Expressions inside recipe.yaml: Jinja's own expression language over the variables and the locked packages.

A text that begins with ``=`` is one (``= 2 if base_model == 'tiny-qwen3-moe' else 100``). Besides the
variables it knows ``version('transformers')`` (a tuple of numbers, empty when the package is not locked)
and the test ``is matching('regular expression')``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

import jinja2

from trainyard import templating
from trainyard.errors import Location, UserError


def evaluate(
    text: str,
    values: Mapping[str, object],
    *,
    packages: Mapping[str, str] | None = None,
    where: Location | None = None,
) -> object:
    """Return what the expression yields. Raises UserError at ``where`` for bad syntax and unknown names."""
    try:
        result = _compiled(text.removeprefix("=").strip())(**values, version=lambda name: version_tuple((packages or {}).get(name, "")))
        if isinstance(result, jinja2.Undefined):
            raise jinja2.UndefinedError(f"'{text}' names something that is not declared")
        return result
    except jinja2.TemplateError as error:
        raise UserError(f"in the expression '{text}': {error.message}", where=where) from None
    except TypeError as error:
        raise UserError(f"in the expression '{text}': {error}", where=where) from None


def fill(text: str, values: Mapping[str, object], packages: Mapping[str, str]) -> str:
    """Return a message with its ``{{ }}`` filled in."""
    known = {**values, "version": lambda name: packages.get(name, "?")}
    return templating.render_text(text, known, name="recipe.yaml")


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 5.23.0 -> (5, 23, 0); an empty text -> ()."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


@lru_cache(256)
def _compiled(text: str) -> Callable[..., object]:
    return _environment().compile_expression(text, undefined_to_none=False)


@cache
def _environment() -> jinja2.Environment:
    env = templating.environment()
    env.tests["matching"] = lambda value, pattern: re.search(pattern, str(value), re.IGNORECASE) is not None
    return env
