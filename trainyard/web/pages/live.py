"""One run's page as it goes on: what is new of the run, as the page shows it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from trainyard.ledger.rows import RunRow
from trainyard.runs.records.record import RunFolder
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.live.curves import SHELF
from trainyard.web.live.following import FigureRows, LogText, ThePlace, TheRun, followed
from trainyard.web.live.hub import LiveHub
from trainyard.web.pages.runlog import as_text
from trainyard.web.pages.runview import live_figures

router = APIRouter()


@router.get("/live/runs/{user}/{label}/{attempt}", response_class=EventSourceResponse)
async def follow(request: Request, site: TheSite, _who: Reader, run: TheRun, at: ThePlace) -> AsyncIterator[ServerSentEvent]:
    """Send what is new of a run: figures, points of curves, pieces of its log; from where Last-Event-ID says, when it comes back."""
    hub: LiveHub = request.app.state.hub
    state = ""
    async with hub.joined(site, run) as watch:
        async for news in followed(watch, at):
            if isinstance(news, FigureRows):
                yield _sent("points", news.rows, str(at))
            elif isinstance(news, LogText):
                yield _sent("log", {"text": as_text(news.text), "offset": news.offset, "next": news.next}, str(at))
            elif isinstance(news, RunRow):
                yield _sent("figures", await run_in_threadpool(_figures, news, watch.folder))
                if state not in ("", news.state):
                    yield _sent("changed", news.state)
                state = news.state
        if watch.over:
            yield _sent("over", state)


def _figures(row: RunRow, folder: RunFolder) -> Any:
    return live_figures(row, SHELF.of(folder.metrics))


def _sent(event: str, data: Any, id: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(event=event, raw_data=json.dumps(data), id=id)
