"""Arguments of the API, held against their annotations before anything is done: what mypy would refuse is the caller's mistake."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from numbers import Integral, Real
from types import NoneType
from typing import ParamSpec, TypeVar

from trainyard.errors import UserError

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

_PATH = ((str, os.PathLike), "a path")
_VALUES = ((Mapping,), "a mapping of names to values")
KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"), "PathLike": _PATH, "Root": _PATH, "float": ((Real, Decimal, str), "a number"),
    "int": ((Integral, str), "a whole number"), "date": ((date,), "a date"), "timedelta": ((timedelta,), "a timedelta"),
    "Mapping[str, object]": _VALUES, "Mapping[str, Setting]": _VALUES, "Sequence[str]": ((Sequence,), "a list of texts"),
    "None": ((NoneType,), ""),
}  # fmt: skip
"""What a part of an annotation takes, and what that is called. A number may be text: what it is then is for the settings to say."""
UNREAD = ("bool", "OnEvent | None")
"""Annotations that nothing is held against."""


def checked_arguments(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Make a call raise UserError, which names the argument, for one that is not what its annotation says."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            annotation = signature.parameters[name].annotation
            if annotation not in UNREAD:
                bound.arguments[name] = _read(name, annotation.split(" | "), value)
        return function(*bound.args, **bound.kwargs)

    return call


def _read(name: str, parts: Sequence[str], value: object) -> object:
    """Return an argument; numbers as Python's own, of numpy's or a Decimal."""
    types, said = zip(*(KINDS[part] for part in parts), strict=True)
    if not isinstance(value, sum(types, ())):
        raise _wrong(name, " or ".join(filter(None, said)), value)
    if "Sequence[str]" in parts and value is not None:
        _check_words(name, value)
    if isinstance(value, Mapping):
        _check_names(name, value)
    if isinstance(value, (bool, int, float)) or not isinstance(value, (Real, Decimal)):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _check_words(name: str, value: object) -> None:
    """One text is a sequence, too, of letters: mypy lets it pass."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise UserError(f"{name} must be a list of texts, not {value!r}", hint=f"Like: {str(value).split()!r}")
    for word in value:
        if not isinstance(word, str):
            raise _wrong(f"each part of {name}", "text", word)


def _check_names(argument: str, values: Mapping[object, object]) -> None:
    for name, value in values.items():
        if not isinstance(name, str):
            raise _wrong(f"each name in {argument}", "text", name)
        if isinstance(value, Mapping):
            _check_names(argument, value)


def _wrong(name: str, kind: str, value: object) -> UserError:
    return UserError(f"{name} must be {kind}, not {value!r}")
