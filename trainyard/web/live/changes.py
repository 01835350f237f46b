"""The list of runs as it changes: one watcher for all who look at it, and the newest of each run is what anybody is told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

from starlette.concurrency import run_in_threadpool

from trainyard.errors import TrainyardError
from trainyard.ledger.rows import RunFilter
from trainyard.ledger.runid import RunId
from trainyard.runs.verbs.listing import ListedRun, list_known
from trainyard.web.site import Site

LOOK = 1.0
"""Seconds between two looks."""
_KEPT = 2000
"""So many runs are remembered that have changed last."""


@dataclass(frozen=True, slots=True)
class ChangedRun:
    """A run as it is now; None: it is not listed any more. ``number``: of the newest event of the ledger that this has in it."""

    id: RunId
    run: ListedRun | None
    number: int


class ListWatch:
    """What has changed in the list since somebody looks at it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.lookers = 0
        self.version = 0
        self.number = 0
        self.rows: OrderedDict[RunId, tuple[int, ListedRun | None]] = OrderedDict()
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.first = asyncio.Lock()

    async def follow(self, after: int | None, longest: float) -> AsyncIterator[ChangedRun]:
        """Yield the runs that go on now, those that an event tells of after one with a number, and then each that changes."""
        self.lookers += 1
        try:
            async with self.first:
                if self.task is None or self.task.done():
                    self.rows, self.changed = OrderedDict(), asyncio.Event()
                    self.number = await run_in_threadpool(self.site.ledger.newest_number)
                    await self.tick()
                    self.task = asyncio.create_task(self._watch())
            seen, number, until = 0, self.number, time.monotonic() + longest
            if after is not None:
                for run, row in await run_in_threadpool(self._since, after):
                    yield ChangedRun(run, row, after)
            while time.monotonic() < until:
                changed, version, number = self.changed, self.version, self.number
                for run, row in self._newer(seen):
                    yield ChangedRun(run, row, number)
                seen = version
                if self.version == version:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), until - time.monotonic())
        finally:
            self.lookers -= 1

    async def tick(self) -> None:
        """Look once, and wake those who wait if something is new."""
        number, looks = await run_in_threadpool(self._look)
        self.number = number
        news = [(run, row) for run, row in looks if run not in self.rows or self.rows[run][1] != row]
        if not news:
            return
        self.version += 1
        for run, row in news:
            self.rows[run] = self.version, row
            self.rows.move_to_end(run)
        while len(self.rows) > _KEPT:
            self.rows.popitem(last=False)
        before, self.changed = self.changed, asyncio.Event()
        before.set()

    async def _watch(self) -> None:
        while self.lookers:
            await asyncio.sleep(LOOK)
            with contextlib.suppress(TrainyardError):  # a ledger that is busy: at the next look
                await self.tick()

    def _newer(self, version: int) -> Sequence[tuple[RunId, ListedRun | None]]:
        return [(run, row) for run, (at, row) in self.rows.items() if at > version]

    def _look(self) -> tuple[int, list[tuple[RunId, ListedRun | None]]]:
        """Return the runs that go on, those that have ended since the last look, and those of which the ledger tells something."""
        events = self._events(self.number)
        live = dict(_listed(self.site, RunFilter(state="live")))
        others = {run for run, (_, row) in self.rows.items() if row is not None and not row.over} | {run for _, run in events}
        number = events[-1][0] if events else self.number
        return number, [*live.items(), *self._named(others - live.keys())]

    def _since(self, after: int) -> list[tuple[RunId, ListedRun | None]]:
        return list(self._named({run for _, run in self._events(after)}))

    def _events(self, after: int) -> list[tuple[int, RunId]]:
        """Return the events after one, by number: the newest of them at most."""
        newest = self.site.ledger.newest_number()
        return [(number, event.run) for number, event in self.site.ledger.numbered(max(after, newest - _KEPT), most=_KEPT)]

    def _named(self, runs: set[RunId]) -> Iterator[tuple[RunId, ListedRun | None]]:
        if not runs:
            return
        known = {row.id: row for row in self.site.ledger.rows_of(sorted(runs, key=str))}
        oldest = min((row.created for row in known.values()), default=None)
        listed = dict(_listed(self.site, RunFilter(since=oldest))) if known else {}
        for run in runs:
            yield run, listed.get(run)


def _listed(site: Site, asked: RunFilter) -> Iterator[tuple[RunId, ListedRun]]:
    """Yield runs without what grows by itself."""
    for run in list_known(site.context, site.ledger, asked).runs:
        yield RunId(run.user, run.label, run.attempt), run if run.over else replace(run, duration=None)
