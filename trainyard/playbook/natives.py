"""What expressions work on: plain data, mappings whose values are rendered when they are read, and `omit`."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final, cast

import jinja2
from markupsafe import Markup

from trainyard.errors import Location, TrainyardError, UserError
from trainyard.playbook.bounds import MOST_BITS, step

Variables = Mapping[str, object]


class NotDue(TrainyardError):
    """What is looked at before its turn will be known, or may be asked for, only then."""


class Written:
    """A value as it stands in a YAML file: it means something only together with variables."""

    __slots__ = ()
    where: Location | None

    def render(self, variables: Variables) -> object:
        """Return the value itself, as plain data."""
        raise NotImplementedError

    def lazily(self, variables: Variables, open_: tuple[Written, ...]) -> object:
        """Return the value for an expression that may need a part of it only; ``open_``: what is being rendered now."""
        raise NotImplementedError


class _Omit:
    """What an argument is that shall count as not given."""

    def __repr__(self) -> str:
        return "omit"


OMIT: Final = _Omit()


class LazyMap(dict[str, Any]):
    """A mapping of a YAML file inside an expression: each value is rendered when it is read, so one may refer to its neighbour."""

    __slots__ = ("_open", "_variables")
    __hash__ = None

    def __init__(self, items: Mapping[str, object], variables: Variables, open_: tuple[Written, ...]) -> None:
        super().__init__(items)
        self._variables, self._open = variables, open_

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, Written):
            if any(value is one for one in self._open):
                raise UserError(f"'{key}' is defined by itself", where=value.where)
            value = value.lazily(self._variables, (*self._open, value))
            super().__setitem__(key, value)
        return value

    def __iter__(self) -> Any:
        # Said again here, since dict(x) and {**x} look below __getitem__ where it is inherited.
        return super().__iter__()

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default."""
        return self[key] if key in self else default  # noqa: SIM401 (dict.get would not render it)

    def items(self) -> Any:
        """Return all pairs."""
        return self.copy().items()

    def values(self) -> Any:
        """Return all values."""
        return self.copy().values()

    def copy(self) -> dict[str, Any]:
        """Return a mapping whose values are rendered."""
        return {key: self[key] for key in self}

    def __eq__(self, other: object) -> bool:
        return bool(plain(self) == plain(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __or__(self, other: Any) -> Any:
        return self.copy() | dict(other)

    def __repr__(self) -> str:
        return repr(plain(self))


class Unread(Mapping[str, object]):
    """A mapping of so much that only what is asked for is read: a filter gets it as it is."""


_SCALARS = frozenset({str, int, float, bool, type(None), bytes})


def plain(value: object) -> Any:
    """Return the value without anything lazy, as lists and dictionaries; raises UndefinedError for what is not defined in it."""
    if (kind := type(value)) in _SCALARS:
        if kind is int and cast(int, value).bit_length() > MOST_BITS:
            raise TypeError("a whole number of more than 400 digits is none that is meant")
        return value
    if isinstance(value, jinja2.Undefined):
        value._fail_with_undefined_error()
    step()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not OMIT}
    if isinstance(value, Markup):
        return str(value)
    if isinstance(value, range):
        raise TypeError("a range is no value: write 'range(...) | list'")
    if callable(value):
        raise TypeError(f"'{getattr(value, '__name__', type(value).__name__)}' is no value: a call of it may be one")
    if isinstance(value, timedelta):
        raise TypeError("a length of time is no value: write '(...).total_seconds()'")
    if isinstance(value, (str, int, float, date, _Omit)) or not isinstance(value, (Iterable, ItemsView)):
        return value
    return [plain(item) for item in value if item is not OMIT]
