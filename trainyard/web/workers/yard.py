"""The machines that are connected to this server: a port of loopback for each, at which SSH goes on to it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from dataclasses import dataclass, field, replace

import structlog
from fastapi import WebSocket
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from trainyard.clouds.ssh import joined
from trainyard.errors import TrainyardError
from trainyard.files import write_atomic
from trainyard.ledger.workers import BEAT, WorkerRow, WorkerRows
from trainyard.remote.keys import new_ssh_key
from trainyard.runs.records.acts import record_act
from trainyard.secret import hide
from trainyard.web.site import Site
from trainyard.web.workers.tasks import first_of
from trainyard.web.workers.words import CHUNK, PROTOCOL, Hello, MachineWord, ServerWord

_PATIENCE = 20.0
"""Seconds in which a machine says what it is, and in which it opens the way for a connection."""
_LOOK = 2.0
"""Seconds between two looks at what was said of a machine here: that it drains, that its token is revoked."""
REFUSED = 4403


@dataclass(frozen=True, slots=True)
class Knock:
    """A connection that came for a machine: the WebSocket by which it goes on, and whether all is over."""

    worker: str
    way: asyncio.Future[WebSocket]
    over: asyncio.Event = field(default_factory=asyncio.Event)


class WorkerYard:
    """The machines that are connected to one server."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.rows = WorkerRows(site.ledger.database)
        self._connected: dict[str, WebSocket] = {}
        self._knocks: dict[str, Knock] = {}
        self._log = structlog.get_logger("workers")

    def prove(self, token: str) -> WorkerRow | None:
        """Return the worker that a token proves now."""
        who = self.site.tokens.prove(token, self.site.now(), "worker")
        return None if who is None else self.rows.of_token(who.token.id)

    async def serve(self, link: WebSocket, row: WorkerRow, token: str) -> None:
        """Keep a machine's connection from its first word to its end."""
        try:
            hello = Hello.model_validate_json(await asyncio.wait_for(link.receive_text(), _PATIENCE))
        except (ValidationError, TimeoutError) as error:
            await _refuse(link, f"what it says of itself is not as it should be: {str(error)[:300]}")
            return
        why = await run_in_threadpool(self._refusal, row, hello)
        if why is not None:
            await _refuse(link, why)
            return
        if (older := self._connected.get(row.name)) is not None:  # the same machine has come back before its old connection was missed
            await _close(older, 4409)
        self._connected[row.name] = link
        door = await asyncio.start_server(lambda *ends: self._knock(link, row.name, *ends), "127.0.0.1", 0)
        watch = asyncio.create_task(self._watch(link, row.name, token))
        try:
            port = int(door.sockets[0].getsockname()[1])
            key = await run_in_threadpool(self._write_way, row, hello, port)
            await _say(link, ServerWord(kind="welcome", key=key, beat=BEAT))
            await self._listen(link, row.name)
        finally:
            watch.cancel()
            door.close()
            if self._connected.get(row.name) is link:
                del self._connected[row.name]

    async def take(self, stream: str, row: WorkerRow, way: WebSocket) -> bool:
        """Take the way that a machine has opened for a connection, and keep it until that is over; False where none waits for it."""
        knock = self._knocks.get(stream)
        if knock is None or knock.worker != row.name or knock.way.done():
            return False
        await way.accept()
        knock.way.set_result(way)
        await knock.over.wait()
        return True

    async def _knock(self, link: WebSocket, worker: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream, knock = secrets.token_urlsafe(24), Knock(worker, asyncio.get_running_loop().create_future())
        self._knocks[stream] = knock
        try:
            await _say(link, ServerWord(kind="open", stream=stream))
            way = await asyncio.wait_for(knock.way, _PATIENCE)
            await _pump(way, reader, writer)
            await _close(way, 1000)
        except (RuntimeError, OSError, TimeoutError, WebSocketDisconnect):
            pass  # the machine has gone meanwhile: whoever has connected sees the end
        finally:
            del self._knocks[stream]
            knock.over.set()
            writer.close()

    def _refusal(self, row: WorkerRow, hello: Hello) -> str | None:
        if hello.protocol != PROTOCOL:
            older = "server" if hello.protocol > PROTOCOL else "worker"
            return f"worker and server do not speak the same protocol ({hello.protocol} and {PROTOCOL}): upgrade the {older}"
        now = self.site.now()
        new = replace(
            row, labels=hello.labels, gpus=hello.gpus, memory_gb=hello.memory_gb, version=hello.version, host_key=hello.host_key,
            server=socket.gethostname(), joined=now, beat=now,
        )  # fmt: skip
        if not self.rows.join(new):
            return f"worker '{row.name}' is another machine: for this one make its own (invoke worker.add NAME), or remove that one first"
        if row.host_key is None:
            record_act(self.site.context, "join worker", row.name, host_key=hello.host_key, gpus=list(hello.gpus))
        return None

    def _write_way(self, row: WorkerRow, hello: Hello, port: int) -> str:
        home = self.site.context.places.home
        machine = joined.JoinedMachine(
            name=row.name, host_key=hello.host_key, folder=hello.folder, python=hello.python, labels=hello.labels
        )  # fmt: skip
        folder = joined.folder_of(home, row.name)
        if not (folder / "key.pub").exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            private, public = new_ssh_key(f"worker {row.name}")
            write_atomic(folder / "key", private, durable=True, mode=0o600)
            write_atomic(folder / "key.pub", public, durable=True)
        joined.set_draining(home, row.name, draining=row.draining is not None)
        joined.write_way(home, machine, port)
        return (folder / "key.pub").read_text(encoding="utf-8")

    async def _listen(self, link: WebSocket, name: str) -> None:
        while True:
            word = MachineWord.model_validate_json(await link.receive_text())
            values = {"server": None} if word.kind == "leave" else {"server": socket.gethostname(), "pods": word.pods}
            try:
                await run_in_threadpool(lambda said: self.rows.change(name, beat=self.site.now(), **said), values)
            except TrainyardError as error:  # the ledger may answer again at the next word
                self._log.warning("beat", worker=name, error=hide(str(error)))
            if word.kind == "leave":
                return

    async def _watch(self, link: WebSocket, name: str, token: str) -> None:
        drains = False
        while True:
            try:
                row = await run_in_threadpool(self.prove, token)
            except TrainyardError:
                await asyncio.sleep(_LOOK)
                continue
            if row is None:
                await _refuse(link, f"the token of worker '{name}' is none any more: it has expired, or was rotated or revoked")
                return
            if (row.draining is not None) != drains:
                drains = row.draining is not None
                await _say(link, ServerWord(kind="drain" if drains else "work"))
            await asyncio.sleep(_LOOK)


async def _say(link: WebSocket, word: ServerWord) -> None:
    await link.send_text(word.model_dump_json())


async def _refuse(link: WebSocket, why: str) -> None:
    with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect):
        await _say(link, ServerWord(kind="refused", why=why))
    await _close(link, REFUSED)


async def _close(link: WebSocket, code: int) -> None:
    with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect):
        await link.close(code)


async def _pump(way: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until one of the two ends."""

    async def there() -> None:
        while data := await reader.read(CHUNK):
            await way.send_bytes(data)

    async def back() -> None:
        while True:
            writer.write(await way.receive_bytes())
            await writer.drain()

    await first_of(there(), back())
