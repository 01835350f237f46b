"""The runs that somebody follows: one watcher a run looks for all of them, and says when something is new.

Nothing is queued for anybody: each who follows reads the files from where they are, so whoever is slow holds nobody up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from trainyard.errors import TrainyardError
from trainyard.ledger.rows import RunRow
from trainyard.ledger.runid import RunId
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.runrows import row_of
from trainyard.web.live.changes import ListWatch
from trainyard.web.site import Site

LOOK = 0.5
"""Seconds between two looks of a watcher."""
PIECE = 1 << 16
"""Bytes of a file that are read at once."""
_ANEW = 5.0
"""Seconds after which a run is read again of which no file has changed: what it costs goes on."""
_KEPT = 16
"""So many pieces are kept for those who come to the same place."""
LOG, METRICS = "train.log", "metrics.jsonl"


@dataclass
class RunWatch:
    """What a watcher has seen of a run, and how many look at it."""

    site: Site
    run: RunId
    lookers: int = 0
    row: RunRow | None = None
    number: int = 0
    """Of the newest event in the ledger."""
    sizes: tuple[int, ...] = ()
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    pieces: OrderedDict[tuple[str, int], bytes] = field(default_factory=OrderedDict)
    read: float = 0.0

    @property
    def folder(self) -> RunFolder:
        """Where its files are."""
        return RunFolder(self.run.folder(self.site.context.places.runs))

    @property
    def over(self) -> bool:
        """Nothing more comes."""
        return self.row is not None and self.row.over

    async def watch(self) -> None:
        """Look as long as somebody else does, and say when something is new."""
        while self.lookers and not self.over:
            with contextlib.suppress(TrainyardError):  # a ledger that is busy: at the next look
                await self.tick()
            await asyncio.sleep(LOOK)

    async def tick(self) -> None:
        """Look once, and wake those who wait if something is new."""
        if await run_in_threadpool(self.look):
            before, self.changed = self.changed, asyncio.Event()
            before.set()

    def look(self) -> bool:
        """Look once; tell whether something is new."""
        seen, sizes, now = (self.row, self.number, self.sizes), self._sizes(), self.site.now()
        self.number = self.site.ledger.newest_number(self.run)
        if sizes != self.sizes or self.row is None or now - self.read >= _ANEW:
            self.pieces = OrderedDict((at, piece) for at, piece in self.pieces.items() if len(piece) == PIECE)
            self.row, self.sizes, self.read = self._row(), sizes, now
        return seen != (self.row, self.number, self.sizes)

    def piece(self, name: str, offset: int) -> bytes:
        """Return what a file has from a byte on, at most a piece; those who are at the same place share it."""
        pieces = self.pieces  # a look may put others in their place meanwhile
        kept = pieces.get((name, offset))
        if kept is None:
            kept = pieces[name, offset] = _read(self.folder, name, offset)
            while len(pieces) > _KEPT:
                with contextlib.suppress(KeyError):
                    pieces.popitem(last=False)
        return kept

    def _sizes(self) -> tuple[int, ...]:
        sizes = []
        for name in ("run.json", METRICS, LOG):
            try:
                state = os.stat(self.folder.path / name)
            except OSError:
                sizes.append(-1)
            else:
                sizes += [state.st_size, state.st_mtime_ns] if name == "run.json" else [state.st_size]
        return tuple(sizes)

    def _row(self) -> RunRow | None:
        with contextlib.suppress(TrainyardError, OSError):
            return row_of(self.folder.load(), self.folder)
        return next(iter(self.site.ledger.rows_of([self.run])), None)


class LiveHub:
    """The runs that are followed; a run that nobody follows any more costs nothing."""

    def __init__(self, site: Site) -> None:
        self.watches: dict[RunId, RunWatch] = {}
        self.list = ListWatch(site)

    @contextlib.asynccontextmanager
    async def joined(self, site: Site, run: RunId) -> AsyncIterator[RunWatch]:
        """Look at a run together with whoever does already."""
        watch = self.watches.setdefault(run, RunWatch(site, run))
        watch.lookers += 1
        try:
            if watch.row is None:
                await run_in_threadpool(watch.look)
            if watch.task is None or watch.task.done():
                watch.task = asyncio.create_task(watch.watch())
            yield watch
        finally:
            watch.lookers -= 1
            if not watch.lookers and self.watches.get(run) is watch:
                del self.watches[run]


def _read(folder: RunFolder, name: str, offset: int) -> bytes:
    with contextlib.suppress(OSError), (folder.path / name).open("rb") as file:
        file.seek(offset)
        return file.read(PIECE)
    return b""
