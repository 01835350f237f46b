"""Streams: each who follows gets all, once, in order; whoever is slow costs one piece and holds nobody up; whoever comes back goes on."""

from __future__ import annotations

import asyncio
import json
import shutil
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message

from tests.web.conftest import NOON, Served
from tests.web.test_pages import kept_run
from trainyard.ledger.runid import RunId
from trainyard.runs.records.record import RunFolder
from trainyard.web.guard import slow
from trainyard.web.live import changes, following, hub
from trainyard.web.live.changes import ChangedRun, ListWatch
from trainyard.web.live.following import FollowPlace, LogText, followed
from trainyard.web.live.hub import LiveHub
from trainyard.web.pages.runpages import folder_of

RUN = RunId("ann", "first", 1)
PATH = "/api/v1/runs/ann/first/1/follow"
OVER: dict[str, Any] = {"phase": "ended", "ended": NOON, "error": "it failed"}
LOG = "".join(f"line {number} café\n" for number in range(20_000)).encode()


def events_of(text: str) -> list[tuple[str, Any, str]]:
    """Return event, data and id of what a stream has said."""
    events = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        events.append((fields.get("event", ""), json.loads(fields["data"]), fields.get("id", "")))
    return events


def test_who_comes_back_after_any_event_has_all_of_a_run_once(served: Served) -> None:
    served.account("ann", "view")
    kept_run(served, **OVER)
    folder_of(served.site, "ann", "first", 1).log.write_bytes(LOG)
    served.site.ledger.add(RUN, "pod created", gpu="H100")
    client = served.client(served.token("ann"))
    whole = events_of(client.get(PATH).text)
    kinds = [event for event, _, _ in whole]
    assert (kinds[:3], kinds[-1], kinds.count("state")) == (["state", "progress", "log"], "over", 1)
    assert "".join(data["text"] for event, data, _ in whole if event == "log").encode() == LOG
    assert [row["step"] for event, data, _ in whole if event == "progress" for row in data["rows"]] == [1, 2, 3, 4, 5]
    assert (whole[0][1]["kind"], whole[0][1]["data"]) == ("pod created", {"gpu": "H100"})
    for at in range(len(whole) - 2):
        rest = events_of(client.get(PATH, headers={"Last-Event-ID": whole[at][2]}).text)
        parts = [[each for each in events if each[0] in ("state", "progress", "log")] for events in (whole[: at + 1], rest, whole)]
        assert [each[:2] for each in parts[0] + parts[1]] == [each[:2] for each in parts[2]]


def test_a_run_that_nobody_knows_is_said_before_any_stream_begins(served: Served) -> None:
    served.account("ann", "view")
    client = served.client(served.token("ann"))
    assert client.get(PATH).status_code == client.get("/live/runs/ann/first/1").status_code == 404
    assert served.client().get(PATH).status_code == served.client().get("/api/v1/events").status_code == 401


def test_the_page_is_told_of_the_same_run_as_it_shows_it(served: Served) -> None:
    served.account("ann", "view")
    kept_run(served, **OVER)
    events = events_of(served.client(served.token("ann")).get("/live/runs/ann/first/1?metrics=0&log=0").text)
    assert [event for event, _, _ in events] == ["points", "log", "figures", "over"]
    assert events[1][1]["text"].startswith("red <script>")


async def read_rest(place: FollowPlace, stream: AsyncIterator[Any]) -> bytes:
    text = b""
    while place.log < len(LOG):
        news = await anext(stream)
        text += news.text.encode() if isinstance(news, LogText) else b""
    return text


async def read_all(place: FollowPlace, stream: AsyncIterator[Any], most: int | None = None) -> bytes:
    text = b""
    async for news in stream:
        if isinstance(news, LogText):
            text += news.text.encode()
            if len(text) == len(LOG) or (most is not None and len(text) >= most):
                break
    assert place.log == len(text)
    return text


def test_of_200_who_follow_those_who_are_slow_cost_nothing_and_hold_up_nobody(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_run(served)
    log, reads = folder_of(served.site, "ann", "first", 1).log, list[int]()
    log.write_bytes(b"")
    read = hub._read
    monkeypatch.setattr(hub, "LOOK", 3600.0)

    def counted(folder: RunFolder, name: str, offset: int) -> bytes:
        reads.append(offset)
        return read(folder, name, offset)

    monkeypatch.setattr(hub, "_read", counted)

    async def follow_all() -> int:
        live = LiveHub(served.site)
        async with live.joined(served.site, RUN) as watch:
            places = [FollowPlace() for _ in range(200)]
            streams = [followed(watch, place) for place in places]
            quick = [asyncio.create_task(read_all(place, stream)) for place, stream in zip(places[:50], streams, strict=False)]
            late = [asyncio.create_task(read_all(place, stream, 1)) for place, stream in zip(places[50:], streams[50:], strict=True)]
            for begin in range(0, len(LOG), 60_000):
                with log.open("ab") as file:
                    file.write(LOG[begin : begin + 60_000])
                await watch.tick()
                await asyncio.sleep(0.02)
            await watch.tick()
            peak = tracemalloc.get_traced_memory()[1]
            assert {len(text) for text in await asyncio.gather(*quick)} == {len(LOG)}
            assert all(0 < len(text) <= hub.PIECE for text in await asyncio.gather(*late))
            assert list(live.watches) == [RUN]
            rest = FollowPlace(log=places[-1].log, metrics=1 << 20)
            assert await read_rest(rest, followed(watch, rest)) == LOG[places[-1].log :]
        assert not live.watches
        return peak

    tracemalloc.start()
    try:
        peak = asyncio.run(follow_all())
    finally:
        tracemalloc.stop()
    assert len(reads) < 30 * (len(LOG) / 60_000 + 2), "one who reads reads for all who are at that place"
    assert peak < 40 << 20


def test_the_list_is_told_as_it_is_and_then_each_change_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "LOOK", 3600.0)
    kept_run(served)
    kept_run(served, "old", **OVER)
    ledger = served.site.ledger
    before = ledger.newest_number()

    async def follow() -> list[ChangedRun]:
        watch = ListWatch(served.site)
        stream = watch.follow(None, 60.0)
        seen = [await anext(stream)]
        record = folder_of(served.site, "ann", "first", 1).load()
        record.phase, record.ended, record.error = "ended", NOON, "it failed"
        folder_of(served.site, "ann", "first", 1).save(record)
        await watch.tick()
        seen.append(await anext(stream))
        ledger.add(RunId("ann", "old", 1), "result deleted")
        await watch.tick()
        seen.append(await anext(stream))
        shutil.rmtree(folder_of(served.site, "ann", "old", 1).path)
        ledger.remove_run(RunId("ann", "old", 1), "")
        ledger.add(RunId("ann", "old", 1), "removed", token="")
        await watch.tick()
        seen.append(await anext(stream))
        return [*seen, await anext(watch.follow(before, 60.0))]

    seen = asyncio.run(follow())
    assert [(each.id.label, each.run.over if each.run else None) for each in seen[:3]] == [("first", False), ("first", True), ("old", True)]
    assert seen[1].number < seen[2].number < seen[3].number
    assert [(each.id.label, each.run) for each in seen[3:]] == [("old", None), ("old", None)]


def test_a_list_that_is_followed_says_its_runs_over_http(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LONGEST", 0.05)
    served.account("ann", "view")
    kept_run(served)
    events = events_of(served.client(served.token("ann")).get("/api/v1/events").text)
    assert [(event, data["run"], data["state"]) for event, data, _ in events] == [("run", "ann/first", "started")]


def test_a_reader_that_takes_nothing_of_a_stream_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "PATIENCE", 0.01)
    sent: list[str] = []

    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def stuck(message: Message) -> None:
        sent.append(message["type"])
        if len(sent) == 3:
            await asyncio.Event().wait()

    asyncio.run(slow.SlowReaders(stream)({"type": "http"}, None, stuck))  # type: ignore[arg-type]
    assert sent == ["http.response.start", "http.response.body", "http.response.body"]
