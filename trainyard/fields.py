"""Read the keys of one mapping strictly: each by its type, none left over; what is wrong is told with its place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.reading import SAID, Kind, Shape, display, is_of, read
from trainyard.yamlfile import Map, Node, Scalar


class Fields:
    """A mapping whose keys are asked for one by one; done() refuses those that nobody asked for."""

    __slots__ = ("_asked", "_given", "_name")

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self._given, self._name = values, name
        self._asked: set[str] = set()

    def error(self, key: str, message: str, *, hint: str | None = None) -> UserError:
        """Return the error that points at a key's value."""
        return UserError(message, where=self.where(key), hint=hint)

    def where(self, key: str | None = None, *, value: bool = True) -> Location | None:
        """Return the place of a key's value, or of the mapping; None for one that is in no file."""
        return self._given.where(key, value=value) if isinstance(self._given, Map) else None

    def value(self, key: str) -> Node:
        """Return the raw value, None when absent."""
        self._asked.add(key)
        return self._given.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text; raises UserError when it is absent and has no default."""
        node = self.value(key)
        if node is None:
            if default is None:
                raise UserError(f"{self._name}: '{key}' is missing", where=self.where())
            return default
        if isinstance(node, (list, dict)):
            raise self.error(key, f"'{key}' must be {SAID['text']}, not {display(node)}")
        return str(node).strip()

    def flag(self, key: str) -> bool:
        """Return a boolean, false when absent."""
        return bool(self._of("flag", key))

    def number(self, key: str) -> float | None:
        """Return a number or None."""
        return cast("float | None", self._of("number", key))

    def shaped(self, key: str, shape: Shape) -> object:
        """Return a value as its shape says, None when absent."""
        node = self.value(key)
        if node is None:
            return None
        try:
            return read(shape, node, f"{self._name}: {key}")
        except UserError as error:
            raise self.error(key, error.message) from None

    def _of(self, kind: Kind, key: str) -> Node:
        node = self.value(key)
        if node is not None and not is_of(kind, node):
            raise self.error(key, f"'{key}' must be {SAID[kind]}, not {display(node)}")
        return node

    def scalars(self, key: str) -> list[Scalar]:
        """Return a list of plain values, empty when absent."""
        node = self.value(key)
        if node is None:
            return []
        if not isinstance(node, list) or any(isinstance(item, (list, dict)) for item in node):
            raise self.error(key, f"'{key}' must be a list of plain values, not {display(node)}")
        return [item for item in node if not isinstance(item, (list, dict))]

    def words(self, key: str) -> list[str]:
        """Return a list of texts (one text counts as a list of one)."""
        node = self.value(key)
        return [node] if isinstance(node, str) else [str(item) for item in self.scalars(key)]

    def integers(self, key: str, default: Sequence[int]) -> list[int]:
        """Return a list of whole numbers."""
        if self.value(key) is None:
            return list(default)
        items = self.scalars(key)
        whole = [int(item) for item in items if is_of("whole", item)]  # type: ignore[arg-type]
        if len(whole) != len(items):
            raise self.error(key, f"'{key}' must be a list of whole numbers")
        return whole

    def regex(self, key: str) -> re.Pattern[str]:
        """Return a compiled regular expression."""
        try:
            return re.compile(self.text(key))
        except re.error as error:
            raise self.error(key, f"'{key}' is no regular expression: {error}") from None

    def mapping(self, key: str) -> Map:
        """Return a mapping, empty when absent."""
        node = self.value(key)
        if node is None:
            return Map()
        if not isinstance(node, Map):
            raise self.error(key, f"'{key}' must hold 'name: value' lines, not {display(node)}")
        return node

    def map(self, key: str) -> Fields:
        """Return a mapping's fields, empty when absent."""
        return Fields(self.mapping(key), key)

    def maps(self, key: str) -> Iterator[tuple[str, Fields]]:
        """Yield the named mappings inside a mapping."""
        outer = self.mapping(key)
        for name, node in outer.items():
            if not isinstance(node, Map):
                raise UserError(f"'{name}' must hold 'name: value' lines, not {display(node)}", where=outer.where(name, value=True))
            yield name, Fields(node, name)

    def items(self, key: str) -> Iterator[Fields]:
        """Yield the mappings of a list, none when absent."""
        for item in cast("list[Node]", self._of("list", key) or []):
            if not isinstance(item, Map):
                raise self.error(key, f"each item of '{key}' must hold 'name: value' lines")
            yield Fields(item, key)

    def rest(self) -> Iterator[tuple[str, Scalar | list[str]]]:
        """Yield all keys with plain values or lists of texts."""
        for key, node in self._given.items():
            self._asked.add(key)
            if isinstance(node, dict):
                raise self.error(key, f"'{key}' must be a plain value, not {display(node)}")
            yield key, [str(item) for item in node] if isinstance(node, list) else node

    def done(self) -> None:
        """Raise UserError at the first key that nobody asked for."""
        for key in self._given:
            if key not in self._asked:
                raise UserError(f"{self._name}: unknown key '{key}'{suggest(key, self._asked)}", where=self.where(key, value=False))
