"""Lists that come in pages: all of them, or an error; never what was seen of one that moved while it was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from trainyard.errors import CloudUnknown

LOOKS = 3
"""Readings of a list whose pages do not agree, before it is told as unreadable."""
Page = tuple[Sequence[Mapping[str, object]], int]
"""Entries, and how many there are in all."""


def read_all(what: str, page: Callable[[int], Page]) -> list[Mapping[str, object]]:
    """Return every entry of a list, each once by its ``id``; ``page`` gives those from an offset on.

    One that ends between two pages moves the others forward, and one would be skipped: a list is believed when all of its
    pages tell one total and that many were seen. Raises CloudUnknown where several readings in turn do not.
    """
    for _ in range(LOOKS):
        seen: dict[str, Mapping[str, object]] = {}
        totals: set[int] = set()
        while True:
            entries, total = page(len(seen))
            fresh = {str(entry.get("id")): entry for entry in entries if str(entry.get("id")) not in seen}
            seen |= fresh
            totals.add(total)
            if len(seen) >= total or len(fresh) < len(entries) or not fresh:
                break
        if totals == {len(seen)}:
            return list(seen.values())
    raise CloudUnknown(
        f"{what}: its pages do not agree on how many there are ({', '.join(map(str, sorted(totals)))}; {len(seen)} were shown)"
    )
