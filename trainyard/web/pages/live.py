"""One run as it goes on, as a stream of events: each who looks reads from where they are, and one watcher a run looks for all of them.

Nothing is queued for anybody: whoever is slow reads the files later, from their own place, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from trainyard.errors import TrainyardError
from trainyard.ledger.rows import RunRow
from trainyard.ledger.runid import RunId
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.runrows import row_of as row_of_record
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.pages.figures import SHELF, row_of
from trainyard.web.pages.runlog import as_text
from trainyard.web.pages.runview import live_figures
from trainyard.web.rest.runs import Attempt, Label, User
from trainyard.web.site import Site

router = APIRouter()
_PIECE = 1 << 16
"""Bytes of a file that one event carries at most."""
_LOOK, _LONGEST = 0.5, 600.0
"""Seconds between two looks of a watcher, and after which a stream ends: who asks for it again is proven again."""


@dataclass
class RunWatch:
    """What a watcher has seen of a run, and how many look at it."""

    site: Site
    run: RunId
    lookers: int = 0
    state: str = ""
    over: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[int, int] = (0, 0)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def folder(self) -> RunFolder:
        """Where its files are."""
        return RunFolder(self.run.folder(self.site.context.places.runs))

    async def watch(self) -> None:
        """Look as long as somebody else does, and say when something is new."""
        while self.lookers and not self.over:
            if await run_in_threadpool(self.look):
                before, self.changed = self.changed, asyncio.Event()
                before.set()
            await asyncio.sleep(_LOOK)

    def look(self) -> bool:
        """Look once; tell whether something is new."""
        seen = (self.state, self.over, self.figures, self.sizes)
        self.sizes = (_size(self.folder, "train.log"), _size(self.folder, "metrics.jsonl"))
        row = self._row()
        if row is not None:
            figures = live_figures(row, SHELF.of(self.folder.metrics))
            self.state, self.over, self.figures = row.state, row.over, figures
        return seen != (self.state, self.over, self.figures, self.sizes)

    def _row(self) -> RunRow | None:
        with contextlib.suppress(TrainyardError, OSError):
            return row_of_record(self.folder.load(), self.folder)
        with contextlib.suppress(TrainyardError):
            return next(iter(self.site.ledger.rows_of([self.run])), None)
        return None


class LiveHub:
    """The runs that are looked at; a run that nobody looks at any more costs nothing."""

    def __init__(self) -> None:
        self.watches: dict[RunId, RunWatch] = {}

    @contextlib.asynccontextmanager
    async def joined(self, site: Site, run: RunId) -> AsyncIterator[RunWatch]:
        """Look at a run together with whoever does already."""
        watch = self.watches.setdefault(run, RunWatch(site, run))
        watch.lookers += 1
        if watch.task is None:
            await run_in_threadpool(watch.look)
        if watch.task is None or watch.task.done():
            watch.task = asyncio.create_task(watch.watch())
        try:
            yield watch
        finally:
            watch.lookers -= 1
            if not watch.lookers and self.watches.get(run) is watch:
                del self.watches[run]


@router.get("/live/runs/{user}/{label}/{attempt}", response_class=EventSourceResponse)
async def follow(
    request: Request, site: TheSite, _who: Reader, user: User, label: Label, attempt: Attempt,
    log: Annotated[int, Query(ge=0, le=1 << 62)] = 0, metrics: Annotated[int, Query(ge=0, le=1 << 62)] = 0,
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> AsyncIterator[ServerSentEvent]:  # fmt: skip
    """Send what is new of a run: figures, points of curves, pieces of its log; from where Last-Event-ID says, when it comes back."""
    hub: LiveHub = request.app.state.hub
    begin, _, rest = (last_event_id or "").partition(".")
    at = [int(begin), int(rest)] if begin.isdecimal() and rest.isdecimal() else [log, metrics]
    async with hub.joined(site, RunId(user, label, attempt)) as watch:
        if not watch.state:
            raise HTTPException(404, f"there is no run {user}/{label}/{attempt}")
        shown: tuple[str, Mapping[str, Any]] = ("", {})
        until = time.monotonic() + _LONGEST
        while time.monotonic() < until:
            changed, state, figures, over = watch.changed, watch.state, watch.figures, watch.over
            pieces = await run_in_threadpool(lambda: list(_pieces(watch.folder, at)))
            for event, data in pieces:
                yield ServerSentEvent(event=event, raw_data=json.dumps(data), id=f"{at[0]}.{at[1]}")
            if figures != shown[1]:
                yield ServerSentEvent(event="figures", raw_data=json.dumps(figures))
            if shown[0] not in ("", state):
                yield ServerSentEvent(event="changed", raw_data=json.dumps(state))
            shown = (state, figures)
            if over and not pieces:
                yield ServerSentEvent(event="over", raw_data=json.dumps(state))
                return
            if not pieces:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), until - time.monotonic())


def _pieces(folder: RunFolder, at: list[int]) -> Iterator[tuple[str, Any]]:
    """Yield what both files have from where somebody is, a piece of each, and move on."""
    if lines := _piece(folder, "metrics.jsonl", at[1]):
        lines = lines[: lines.rfind(b"\n") + 1]
        at[1] += len(lines)
        if rows := [row for row in map(row_of, lines.splitlines()) if row]:
            yield "points", rows
    if text := _piece(folder, "train.log", at[0]):
        before, at[0] = at[0], at[0] + len(text)
        yield "log", {"text": as_text(text), "offset": before, "next": at[0]}


def _piece(folder: RunFolder, name: str, offset: int) -> bytes:
    with contextlib.suppress(OSError), (folder.path / name).open("rb") as file:
        file.seek(offset)
        return file.read(_PIECE)
    return b""


def _size(folder: RunFolder, name: str) -> int:
    with contextlib.suppress(OSError):
        return (folder.path / name).stat().st_size
    return 0
