"""A link with a round trip: a TCP proxy on loopback that hands each byte on half of it later, in both directions.

python -m bench.late PORT MILLISECONDS      prints the port that leads to PORT, and serves until its stdin ends

It ends TCP on both sides, so loss and TCP's own window are not in it; only the time is.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 256 * 1024


@contextlib.contextmanager
def late(port: int, milliseconds: int) -> Iterator[int]:
    """Lend the port of a proxy in a process of its own, which stands in nobody's way; without a delay the port itself."""
    if not milliseconds:
        yield port
        return
    words = [sys.executable, "-m", "bench.late", str(port), str(milliseconds)]
    here = Path(__file__).resolve().parent.parent
    with subprocess.Popen(words, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield int(process.stdout.readline())
        process.stdin.close()


def _carry(source: socket.socket, target: socket.socket, delay: float) -> None:
    waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, block = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not block:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(block)

    threading.Thread(target=send, daemon=True).start()
    with contextlib.suppress(OSError):
        while block := source.recv(_BLOCK):
            waiting.put((time.monotonic() + delay, block))
    waiting.put((time.monotonic() + delay, b""))


def main() -> None:
    """Serve until stdin ends."""
    port, delay = int(sys.argv[1]), int(sys.argv[2]) / 2000
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listening.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_carry, args=(one, other, delay), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
