"""The plugin's process while it serves: signals, the end of stdin, and when it may exit.

Loads the protocol's stubs, so engine.stubs.protocol_only() comes first.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import stat
import sys
from collections.abc import Callable

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from trainyard.leases.world import Control
from trainyard.provider.live import Outside
from trainyard.provider.servicer import HandlerPool, Servicer

_LIMIT = 400 * 1024 * 1024
_AFTER_REPLY = 0.05


async def serve(engine: str | None) -> None:
    """Serve until told to stop; never returns."""
    loop, leaving = asyncio.get_running_loop(), _Leaving(Control())
    outside = Outside(leaving.control, engine)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _LIMIT), ("grpc.max_send_message_length", _LIMIT)])
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(
        Servicer(outside.world_for, leaving.control, leaving.work, leaving.ask, outside.attach), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leaving.interrupted)
    _watch_stdin(loop, leaving.engine_died)
    print(port, flush=True)
    # The engine now takes its time to start the program: load the handlers meanwhile.
    loop.run_in_executor(leaving.work.pool, importlib.import_module, "trainyard.provider.registry")
    await leaving.done.wait()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: executor threads and grpc's own would hold the process for seconds.
    os._exit(0)


def _watch_stdin(loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
    """Call back at the end of stdin, where stdin is an engine's pipe; a terminal or /dev/null says nothing of one."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return

    def readable() -> None:
        try:
            data = os.read(0, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(0)
            on_end()

    loop.add_reader(0, readable)


class _Leaving:
    """Decides when the process may end: told to, nothing at work, and the last reply on its way."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.done = asyncio.Event()
        self.work = HandlerPool(self.idle)
        self._asked = False

    def idle(self) -> None:
        """End now, if that was asked for."""
        if self._asked and not self.work.running:
            # The reply to what was just finished (or to Cancel itself) still has to go out.
            asyncio.get_running_loop().call_later(_AFTER_REPLY, self.done.set)

    def ask(self) -> None:
        """End as soon as nothing is at work."""
        self._asked = True
        self.idle()

    def interrupted(self) -> None:
        """SIGINT or SIGTERM: waiting stops."""
        self.control.cancel()
        self.ask()

    def engine_died(self) -> None:
        """End of stdin: nothing new is begun."""
        self.control.orphan()
        self.ask()
