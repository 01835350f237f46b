"""A port of this machine that leads to a server on a run's pod, kept open whatever the network does, and told when somebody answers."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from trainyard.errors import TrainyardError
from trainyard.retries import LINK
from trainyard.runs.context import CommandContext
from trainyard.runs.verbs.reach import forwarding, ssh_command

_POLL = 1.0
_PATIENCE = 5.0
"""Seconds in which a server says how it is, and after which a tunnel has stood."""


def telling(port: int, on_open: Callable[[int], None]) -> AbstractContextManager[None]:
    """Tell the port, once, as soon as a server of this machine's says there that it is well."""

    def watch(over: threading.Event) -> None:
        while not over.wait(_POLL):
            if _is_well(port):
                return on_open(port)
        return None

    return _meanwhile(watch)


def tunnelled(context: CommandContext, run: str, here: int, there: int) -> AbstractContextManager[None]:
    """Lead a port of this machine to one of a run's pod; a tunnel that breaks is followed by another, to whichever attempt there is."""

    def hold(over: threading.Event) -> None:
        tries = 0
        while not over.is_set():
            tries += 1
            try:
                folder = context.folder(run)
                with ssh_command(context, folder.load(), folder, extra=forwarding(here, there)) as line:
                    tries = 0 if _through(line, over) else tries
            except TrainyardError as error:
                if tries == 1:
                    context.ui.warn(f"there is no tunnel to the server now: {error.message}")
            over.wait(LINK.pause(max(tries, 1)))

    return _meanwhile(hold)


@contextmanager
def _meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Let a thread work for as long as this is entered."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _through(line: list[str], over: threading.Event) -> bool:
    """Hold one tunnel until it breaks; True when it had stood."""
    # A session of its own: a Ctrl-C is for us, who leave in order.
    argv, held = [line[0], "-o", "BatchMode=yes", *line[1:]], 0.0
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while process.poll() is None and not over.wait(_POLL):
            held += _POLL
        process.terminate()
    return held > _PATIENCE


def _is_well(port: int) -> bool:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    with contextlib.closing(link), contextlib.suppress(OSError, http.client.HTTPException):
        link.request("GET", "/healthz")
        return link.getresponse().status == 200
    return False
