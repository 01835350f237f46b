"""How much the aliases of a YAML document make of it: a few lines of them can stand for billions of values."""

from __future__ import annotations

from typing import Protocol

import yaml

from trainyard.errors import Location, UserError

MOST_REPEATED = 100_000
"""So many values may come from aliases; a file that is meant has some hundreds."""


class DocumentPlaces(Protocol):
    """The text of the document."""

    def at(self, line: int, column: int = 1) -> Location:
        """Return a place in it."""
        ...


class BoundedLoader(yaml.SafeLoader):
    """Refuses a document whose aliases repeat too much."""

    source: DocumentPlaces

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._repeated = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node of the document. Raises UserError at the alias that is one too many."""
        alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark if alias else None  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if mark is not None and node is not None:
            self._repeated += self._size(node)
            if self._repeated > MOST_REPEATED:
                what = f"the aliases up to this one make more than {MOST_REPEATED:,} values"
                raise UserError(what, where=self.source.at(mark.line + 1, mark.column + 1))
        return node

    def _size(self, node: yaml.Node) -> int:
        if id(node) not in self._sizes:
            self._sizes[id(node)] = 0  # one that holds itself is refused later
            parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
            self._sizes[id(node)] = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(self._size(part) for part in parts))
        return self._sizes[id(node)]
