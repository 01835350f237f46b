"""Streams of events over HTTP: one run as it goes on, and the list of runs as it changes (https://html.spec.whatwg.org/#server-sent-events).

Every event has an id. Who comes back with it as Last-Event-ID goes on there: nothing is missing and nothing comes twice.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from trainyard.ledger.rows import RunRow
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.live import following
from trainyard.web.live.following import FigureRows, LogText, News, ThePlace, TheRun
from trainyard.web.live.hub import LiveHub

router = APIRouter(tags=["live"])
_ROW = ("state", "over", "steps_done", "steps_planned", "loss", "learning_rate", "eta", "cost", "error")


@router.get("/runs/{user}/{label}/{attempt}/follow", response_class=EventSourceResponse)
async def follow_run(request: Request, site: TheSite, _who: Reader, run: TheRun, at: ThePlace) -> AsyncIterator[ServerSentEvent]:
    """Send what is new of a run: `state` (an event of the ledger), `progress` (figures by step), `log`, `run` (how it is), `over`.

    `log`, `metrics` and `events` say from which byte or number on; Last-Event-ID says all three.
    """
    hub: LiveHub = request.app.state.hub
    async with hub.joined(site, run) as watch:
        async for news in following.followed(watch, at):
            event, data = _message(news)
            yield ServerSentEvent(event=event, raw_data=json.dumps(data, default=str), id=str(at))
        if watch.over and watch.row is not None:
            yield ServerSentEvent(event="over", raw_data=json.dumps(_message(watch.row)[1]), id=str(at))


@router.get("/events", response_class=EventSourceResponse)
async def follow_list(
    request: Request, _who: Reader, last_event_id: Annotated[str | None, Header(pattern=r"^[0-9]{1,18}$")] = None,
) -> AsyncIterator[ServerSentEvent]:  # fmt: skip
    """Send each run that goes on, and then each that changes: `run` as the list has it; `removed`, when it is not listed any more."""
    hub: LiveHub = request.app.state.hub
    after = int(last_event_id) if last_event_id else None
    async for changed in hub.list.follow(after, following.LONGEST):
        name = {"user": changed.id.user, "label": changed.id.label, "attempt": changed.id.attempt}
        data = asdict(changed.run) if changed.run is not None else name
        yield ServerSentEvent(event="run" if changed.run is not None else "removed", raw_data=json.dumps(data), id=str(changed.number))


def _message(news: News) -> tuple[str, Mapping[str, Any]]:
    if isinstance(news, LogText):
        return "log", asdict(news)
    if isinstance(news, FigureRows):
        return "progress", {"rows": news.rows}
    if isinstance(news, RunRow):
        return "run", {name: getattr(news, name) for name in _ROW}
    event = news.event
    return "state", {"number": news.number, "time": event.time, "kind": event.kind, "machine": event.machine, "data": event.data}
