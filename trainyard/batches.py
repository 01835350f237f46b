"""Cut what has a size into batches: one question or one file a batch, neither too many in it nor too much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class Sized(Protocol):
    """What takes up ``size`` bytes."""

    @property
    def size(self) -> int: ...


S = TypeVar("S", bound=Sized)


def batches(items: Iterable[S], count: int, most: int | None = None) -> Iterator[list[S]]:
    """Yield the items in lists of at most ``count``, and of at most ``most`` bytes where there are two or more in it."""
    batch: list[S] = []
    size = 0
    for item in items:
        if batch and (len(batch) == count or (most is not None and size + item.size > most)):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch
