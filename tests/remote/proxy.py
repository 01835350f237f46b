"""A TCP proxy that a test can cut, delay, slow down or turn into a black hole."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import replace

from trainyard.remote.transport import Address


class Proxy:
    """Forward loopback connections to an address; the switches apply to all of them."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = threading.Event()
        self._open.set()
        self._refuse = False
        self.delay = 0.0
        self.accepted = 0
        self.cut_after: int | None = None
        """Cut the connection that carries byte number so-and-so towards the client (once)."""
        self.carried = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> Address:
        """The target's address, seen through the proxy."""
        return replace(self._target, host="127.0.0.1", port=self._listener.getsockname()[1])

    def cut(self) -> None:
        """Reset every open connection."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _reset(end)

    def refuse(self, refuse: bool) -> None:
        """Drop new connections as soon as they are made (or stop doing so)."""
        self._refuse = refuse

    def swallow(self, swallow: bool) -> None:
        """Go on acknowledging but forward nothing: what a vanished pod behind a NAT looks like."""
        if swallow:
            self._open.clear()
        else:
            self._open.set()

    def close(self) -> None:
        """End it all."""
        self._open.set()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refuse:
                client.close()
                continue
            server = socket.create_connection((self._target.host, self._target.port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                if self.delay:
                    time.sleep(self.delay)
                if down:
                    self.carried += len(data)
                    if self.cut_after is not None and self.carried >= self.cut_after:
                        self.cut_after = None
                        self.cut()
                        return
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
