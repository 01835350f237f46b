"""What is new of a run for one who follows it: from a place on, without a gap and without a repeat."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, HTTPException, Query
from starlette.concurrency import run_in_threadpool

from trainyard.ledger.rows import LedgerEvent, RunRow
from trainyard.ledger.runid import RunId
from trainyard.web.guard.principal import TheSite
from trainyard.web.live.curves import row_of
from trainyard.web.live.hub import LOG, METRICS, PIECE, RunWatch
from trainyard.web.rest.runs import Attempt, Label, User

LONGEST = 600.0
"""Seconds after which a stream ends: who asks for it again is proven again."""
_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})")
Offset = Annotated[int, Query(ge=0, le=1 << 62)]


@dataclass(slots=True)
class FollowPlace:
    """How far somebody has come: bytes of the log and of the figures, and the number of an event of the ledger."""

    log: int = 0
    metrics: int = 0
    events: int = 0

    def __str__(self) -> str:
        return f"{self.log}.{self.metrics}.{self.events}"


@dataclass(frozen=True, slots=True)
class LogText:
    """A piece of a log as UTF-8, whole characters: it begins at ``offset``, and the next one at ``next``."""

    text: str
    offset: int
    next: int


@dataclass(frozen=True, slots=True)
class FigureRows:
    """Lines of figures, as numbers."""

    rows: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """One thing that happened to the run, as the ledger has it."""

    number: int
    event: LedgerEvent


News = LogText | FigureRows | NumberedEvent | RunRow
"""A row: how the run is now."""


def place_of(
    log: Offset = 0, metrics: Offset = 0, events: Offset = 0, last_event_id: Annotated[str | None, Header(max_length=64)] = None
) -> FollowPlace:
    """Return where a request wants to go on: Last-Event-ID, which a browser sends when it comes back, counts more than the query."""
    if last_event_id and (said := _ID.fullmatch(last_event_id)):
        return FollowPlace(*map(int, said.groups()))
    return FollowPlace(log, metrics, events)


def followed_run(site: TheSite, user: User, label: Label, attempt: Attempt) -> RunId:
    """Return the run that a path names; raises 404 for one that is not known, before any stream begins."""
    run = RunId(user, label, attempt)
    if not (run.folder(site.context.places.runs) / "run.json").is_file() and not site.ledger.rows_of([run]):
        raise HTTPException(404, f"there is no run {run}/{attempt}")
    return run


ThePlace = Annotated[FollowPlace, Depends(place_of)]
TheRun = Annotated[RunId, Depends(followed_run)]


async def followed(watch: RunWatch, at: FollowPlace) -> AsyncIterator[News]:
    """Yield what is new from a place on, moving the place, until the run is over or the stream is long enough."""
    until, row = time.monotonic() + LONGEST, None
    while time.monotonic() < until:
        changed, over = watch.changed, watch.over
        news = await run_in_threadpool(lambda: list(_news(watch, at)))
        for each, place in news:
            at.log, at.metrics, at.events = place
            yield each
        if watch.row is not None and watch.row != row:
            row = watch.row
            yield row
        if over and not news:
            return
        if not news:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), until - time.monotonic())


def _news(watch: RunWatch, at: FollowPlace) -> Iterator[tuple[News, tuple[int, int, int]]]:
    """Yield what there is from where somebody is, a piece of each, and where it leads."""
    log, metrics, events = at.log, at.metrics, at.events
    if watch.number > events:
        for number, event in watch.site.ledger.numbered(events, watch.run):
            events = number
            yield NumberedEvent(number, event), (log, metrics, number)
    lines = watch.piece(METRICS, metrics)
    if end := lines.rfind(b"\n") + 1:
        metrics += end
        yield FigureRows([row for row in map(row_of, lines[:end].splitlines()) if row]), (log, metrics, events)
    data = watch.piece(LOG, log)
    text, used = codecs.utf_8_decode(data, "replace", watch.over and len(data) < PIECE)
    if used:
        yield LogText(text, log, log + used), (log + used, metrics, events)
