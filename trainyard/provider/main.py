"""The plugin's process: start fast, serve, and know when to end.

Contract with an engine: argv[1] is its address, the port is printed on the first line of stdout, and stdin
is a pipe that ends when the engine dies. Idle means exit at once on Cancel, SIGINT, SIGTERM or the end of
stdin; at work, waiting stops, the request in flight is finished and written down, then the process exits.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import signal
import stat
import sys
import types
from collections.abc import Callable, Sequence

_LIMIT = 400 * 1024 * 1024
_AFTER_REPLY = 0.05


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # grpc reports each closed connection on stderr otherwise
    stand_in()
    asyncio.run(_serve(arguments[0] if arguments else None))


def stand_in() -> None:
    """Register empty ``pulumi`` and ``pulumi.runtime`` modules, so that the protocol's stubs load without the SDK.

    The SDK's own import takes longer than everything else this process does (0.35 s of 0.65 s measured).
    """
    if "pulumi" in sys.modules:
        return
    spec = importlib.util.find_spec("pulumi")
    if spec is None or not spec.submodule_search_locations:
        return
    root = next(iter(spec.submodule_search_locations))
    for name, path in (("pulumi", root), ("pulumi.runtime", os.path.join(root, "runtime"))):
        module = types.ModuleType(name)
        module.__path__ = [path]
        sys.modules[name] = module


async def _serve(engine: str | None) -> None:
    import grpc
    from pulumi.runtime.proto import provider_pb2_grpc

    from trainyard.provider import live
    from trainyard.provider.servicer import Servicer, Work
    from trainyard.provider.world import Control

    loop, control, done = asyncio.get_running_loop(), Control(), asyncio.Event()
    leaving = False

    def leave_when_idle() -> None:
        if leaving and not work.running:
            # The reply to what was just finished (or to Cancel itself) still has to go out.
            loop.call_later(_AFTER_REPLY, done.set)

    def leave() -> None:
        nonlocal leaving
        leaving = True
        leave_when_idle()

    def interrupted() -> None:
        control.cancel()
        leave()

    def engine_died() -> None:
        control.orphan()
        leave()

    work = Work(leave_when_idle)
    outside = live.Outside(control, engine)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _LIMIT), ("grpc.max_send_message_length", _LIMIT)])
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(
        Servicer(outside.world_for, control, work, leave, outside.attach), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    _watch_stdin(loop, engine_died)
    print(port, flush=True)
    # The engine now takes its time to start the program: load the handlers meanwhile.
    loop.run_in_executor(work.pool, importlib.import_module, "trainyard.provider.registry")
    await done.wait()
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


if __name__ == "__main__":
    main()
