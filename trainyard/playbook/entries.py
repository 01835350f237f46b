"""Read the entries of plays, blocks and tasks; what is wrong with one is kept, so that a person is told of all at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from trainyard.errors import Location, SeveralWrong, UserError, together
from trainyard.playbook import documents
from trainyard.playbook.model import Vars
from trainyard.playbook.values import Condition, Literal, Text, Value, boolean, compile_condition, compile_value
from trainyard.reading import SAID, Kind, display
from trainyard.yamlfile import Map, Node, Seq

VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
T = TypeVar("T")


class Mistakes:
    """What is wrong with a playbook, in the order of its files and lines."""

    def __init__(self) -> None:
        self._found: list[UserError] = []

    @contextmanager
    def gathered(self, where: Location | None = None) -> Iterator[None]:
        """Keep the mistake that ends what is done here, and go on behind it; ``where``: its place, if it says none."""
        try:
            yield
        except UserError as error:
            for part in error.parts if isinstance(error, SeveralWrong) else (error,):
                self.add(part if part.where or where is None else UserError(part.message, where=where, hint=part.hint))

    def add(self, error: UserError) -> None:
        """Keep one more, but not the same twice: a file may be included several times."""
        if not any((other.where, other.message) == (error.where, error.message) for other in self._found):
            self._found.append(error)

    def raise_all(self) -> None:
        """Raise all of them as one error; nothing where there is none."""
        if self._found:
            files = list(dict.fromkeys(error.where.file for error in self._found if error.where))
            raise together(sorted(self._found, key=lambda error: _order(error, files)), "things")


def _order(error: UserError, files: list[str]) -> tuple[int, int, int, str]:
    where = error.where
    return (files.index(where.file), where.line, where.column, error.message) if where else (len(files), 0, 0, error.message)


class Entry:
    """A mapping of a playbook. Each of its values is read as what it must be, None where it is wrong or not there."""

    def __init__(self, node: Map, wrong: Mistakes) -> None:
        self.node, self.wrong = node, wrong

    def at(self, key: str) -> Location | None:
        """Return the place of a value."""
        return self.node.where(key, value=True)

    def text(self, key: str) -> str | None:
        """Return a text; a number is one, too."""
        return self._read(key, self._text)

    def name(self, key: str) -> str | None:
        """Return the name of a variable."""
        return self._read(key, self._name)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a text or a list of them as texts."""
        return self._read(key, self._texts) or ()

    def words(self, key: str) -> tuple[str, ...]:
        """Return texts, each of which may hold several with commas between."""
        return tuple(word.strip() for text in self.texts(key) for word in text.split(",") if word.strip())

    def flag(self, key: str) -> bool | None:
        """Return true or false as it is written."""
        return self._read(key, lambda key: boolean(self.node[key], self.at(key)))

    def value(self, key: str) -> Value | None:
        """Return a value of any kind, None for an empty one, too."""
        return self._read(key, lambda key: compile_value(self.node[key], self.at(key)))

    def switch(self, key: str) -> Value | None:
        """Return true, false or an expression."""
        value = self.value(key)
        if isinstance(value, Text):
            return value
        return None if value is None or (flag := self.flag(key)) is None else Literal(flag, self.at(key))

    def condition(self, key: str) -> Condition | None:
        """Return a condition."""
        return self._read(key, lambda key: compile_condition(self.node[key], self.at(key)))

    def variables(self, key: str) -> Vars:
        """Return names with their values."""
        inner = self.inner(key)
        return {} if inner is None else compile_vars(inner.node, self.wrong)

    def inner(self, key: str) -> Entry | None:
        """Return a mapping."""
        return self._read(key, lambda key: Entry(mapping(self.node[key], self.at(key), f"'{key}'"), self.wrong))

    def items(self, key: str) -> list[tuple[Node, Location | None]]:
        """Return the items of a list, each with its place."""
        return self._read(key, self._items) or []

    def entries(self, key: str, what: str) -> list[Entry]:
        """Return the mappings of a list; ``what`` each of them is."""
        entries = []
        for item, place in self.items(key):
            with self.wrong.gathered():
                entries.append(Entry(mapping(item, place, what), self.wrong))
        return entries

    def _read(self, key: str, read: Callable[[str], T]) -> T | None:
        if self.node.get(key) is None:
            return None
        with self.wrong.gathered():
            return read(key)
        return None

    def _text(self, key: str) -> str:
        value = self.node[key]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self._unfit(key, "text")
        return value

    def _name(self, key: str) -> str:
        text = self._text(key)
        if not VARIABLE.match(text):
            raise UserError(f"'{text}' is not a variable name", where=self.at(key))
        return text

    def _texts(self, key: str) -> tuple[str, ...]:
        value = self.node[key]
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, (list, dict, bool)) or item is None for item in items):
            raise self._unfit(key, "texts")
        return tuple(str(item) for item in items)

    def _items(self, key: str) -> list[tuple[Node, Location | None]]:
        value = self.node[key]
        if not isinstance(value, Seq):
            raise self._unfit(key, "list")
        return [(item, value.where(index)) for index, item in enumerate(value)]

    def _unfit(self, key: str, kind: Kind) -> UserError:
        return UserError(f"'{key}' must be {SAID[kind]}, not {display(self.node[key])}", where=self.at(key))


def mapping(node: Node, where: Location | None, what: str) -> Map:
    """Return a node that has to be a mapping; raises UserError for any other."""
    if not isinstance(node, Map):
        raise UserError(f"{what} is a mapping of words to values", where=where)
    return node


def compile_vars(node: Map, wrong: Mistakes) -> Vars:
    """Return the variables of a mapping; those that are wrong are left out."""
    values: dict[str, Value] = {}
    for name, item in node.items():
        with wrong.gathered():
            if not VARIABLE.match(name):
                raise UserError(f"'{name}' is not a variable name", where=node.where(name))
            values[name] = compile_value(item, node.where(name, value=True))
    return values


def read_vars(path: Path, wrong: Mistakes) -> Vars:
    """Return the variables of a file; an empty one has none."""
    with wrong.gathered():
        document = documents.load(path)
        if document is not None:
            return compile_vars(mapping(document, Location(str(path), 1), "a file of variables"), wrong)
    return {}
