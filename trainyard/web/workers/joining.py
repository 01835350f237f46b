"""The program of a machine that joins: one connection to the server, kept for ever, and an SSH server of its own behind it.

Its end, or the server's, ends no pod: those are their own guardians' until their leases are over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from trainyard import __version__
from trainyard.clouds.local import LocalCloud
from trainyard.errors import UserError
from trainyard.filelock import acquire_now, closing
from trainyard.network import LOOPBACK
from trainyard.retries import SERVER
from trainyard.web.workers.machineserver import MachineServer
from trainyard.web.workers.tasks import first_of
from trainyard.web.workers.words import CHUNK, LINK, STREAM, Hello, MachineWord, ServerWord

_API = "/api/v1"
_OPEN = 20.0
"""Seconds for one try."""
_LOOK = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOptions:
    """Which server, as whom, with what."""

    url: str
    token: Callable[[], str]
    """Asked at each try: a file with it may have got another one."""
    labels: Mapping[str, str]
    folder: Path
    renews: bool = False
    """That may be."""


class JoinRefused(Exception):
    """The server does not take the machine."""


class JoiningWorker:
    """One machine that joins one server."""

    def __init__(self, options: JoinOptions, say: Callable[[str], None]) -> None:
        self.options, self.say = options, say
        self.address = _address(options.url)
        self.server = MachineServer(options.folder)
        self.pods = LocalCloud(options.folder / "pods")
        self.joined = 0
        """How often it was taken."""
        self.drains = False
        self._over = asyncio.Event()
        self._ways: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Stay connected until a signal or the end of a drain; raises UserError where the server does not take it."""
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(sign, self._over.set)
        tries = 0
        try:
            while not self._over.is_set():
                before = self.joined
                try:
                    if await self._session():
                        break
                    self._lost("the connection has ended")
                except JoinRefused as refusal:
                    # Whoever rotates a token brings the new one into its file.
                    if not (self.joined and self.options.renews):
                        raise UserError(f"{self.options.url}: {refusal}") from None
                    self._lost(str(refusal))
                except (OSError, TimeoutError, WebSocketException, ValidationError) as error:
                    self._lost(str(error) or type(error).__name__)
                tries = 0 if self.joined > before else tries + 1
                await self._pause(SERVER.pause(max(1, tries)))
        finally:
            self.server.stop()

    async def _session(self) -> bool:
        """Be connected for once; True when there is no reason to come back."""
        async with self._connection(LINK) as link:
            await link.send(self._hello().model_dump_json())
            word = ServerWord.model_validate_json(await asyncio.wait_for(link.recv(), _OPEN))
            if word.kind != "welcome":
                raise JoinRefused(word.why)
            self.server.start(word.key)
            self.joined, self.drains = self.joined + 1, False
            self.say(f"joined     {self.options.url}")
            leaves = asyncio.create_task(self._leave())
            tasks = [leaves, asyncio.create_task(self._listen(link)), asyncio.create_task(self._beat(link, word.beat))]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if leaves in done:
                    await link.send(MachineWord(kind="leave").model_dump_json())
                    return True
                for task in done:
                    task.result()
                return False
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self) -> None:
        """Wait until a person ends it, or it is drained and has no pod left."""
        while not self._over.is_set():
            if self.drains and not await self._count():
                self.say("drained    no pod is left here: it leaves")
                return
            await self._pause(_LOOK)

    async def _listen(self, link: ClientConnection) -> None:
        async for text in link:
            word = ServerWord.model_validate_json(text)
            if word.kind == "refused":
                raise JoinRefused(word.why)
            if word.kind == "open":
                way = asyncio.create_task(self._way(word.stream))
                self._ways.add(way)
                way.add_done_callback(self._ways.discard)
            else:
                self.drains = word.kind == "drain"
                self.say("draining   it takes no new lease, and leaves when the last one is over" if self.drains else "working    again")

    async def _beat(self, link: ClientConnection, every: float) -> None:
        while True:
            await link.send(MachineWord(kind="beat", pods=await self._count()).model_dump_json())
            await asyncio.sleep(every)

    async def _way(self, stream: str) -> None:
        """Lead one connection on to the SSH server here."""
        with contextlib.suppress(OSError, TimeoutError, WebSocketException, JoinRefused):
            async with self._connection(STREAM + stream) as way:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)

                async def there() -> None:
                    while data := await reader.read(CHUNK):
                        await way.send(data)

                async def back() -> None:
                    async for data in way:
                        writer.write(data if isinstance(data, bytes) else data.encode())
                        await writer.drain()

                try:
                    await first_of(there(), back())
                finally:
                    writer.close()

    @contextlib.asynccontextmanager
    async def _connection(self, path: str) -> AsyncIterator[ClientConnection]:
        headers = {"Authorization": f"Bearer {self.options.token()}"}
        try:
            async with connect(
                self.address + path,
                additional_headers=headers,
                compression=None,
                max_size=None,
                open_timeout=_OPEN,
                user_agent_header=None,
                proxy=None if urlsplit(self.address).hostname in LOOPBACK else True,
            ) as link:
                yield link
        except InvalidStatus as error:
            if error.response.status_code in (401, 403):
                raise JoinRefused("the token is no worker's: it is none, has expired, or was rotated or revoked") from None
            raise

    def _hello(self) -> Hello:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        return Hello(
            version=__version__, labels=dict(self.options.labels), gpus=tuple(gpu.name for gpu in self.pods.gpus()),
            memory_gb=round(memory, 1), host_key=self.server.host_key, folder=str(self.pods.root), python=sys.executable,
        )  # fmt: skip

    async def _count(self) -> int:
        return len(await asyncio.to_thread(self.pods.list))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    def _lost(self, why: str) -> None:
        self.say(f"apart      {why}; it tries again, and what trains here goes on")


def join(options: JoinOptions, say: Callable[[str], None]) -> None:
    """Join a server and stay; raises UserError where that cannot be, or another worker of this machine has the folder."""
    options.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = acquire_now(options.folder / "lock")
    if lock is None:
        raise UserError(f"{options.folder}: another worker is at work with this folder", hint="For one more: --folder ANOTHER")
    with closing(lock):
        asyncio.run(JoiningWorker(options, say).work())


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--join {url}: it is no server's address", hint="As in https://trainyard.example.org")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise UserError(f"--join {url}: without TLS the token would go over the network as clear text", hint="Join by https://")
    return f"ws{'s' if parts.scheme == 'https' else ''}://{parts.netloc}{parts.path.rstrip('/')}{_API}"
