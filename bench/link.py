"""A link of a given speed: a TCP proxy on loopback that lets so many bytes through a second, over all its connections."""

from __future__ import annotations

import socket
import threading
import time

_BLOCK = 16 * 1024


class Link:
    """One direction is slow (towards the server, or away from it), the other one is not."""

    def __init__(self, bytes_a_second: float, *, upwards: bool) -> None:
        self.speed, self.upwards, self.carried = bytes_a_second, upwards, 0
        self._free_at, self._lock = 0.0, threading.Lock()

    def to(self, port: int) -> int:
        """Return a port that leads to another one through this link, for as long as the process lives."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._accept, args=(listening, port), daemon=True).start()
        return int(listening.getsockname()[1])

    def _accept(self, listening: socket.socket, port: int) -> None:
        while True:
            near, _ = listening.accept()
            threading.Thread(target=self._join, args=(near, port), daemon=True).start()

    def _join(self, near: socket.socket, port: int) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", port))
        except OSError:
            near.close()
            return
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Little fits in the link itself, or the sender would believe that it has sent all.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        back = threading.Thread(target=self._carry, args=(far, near, not self.upwards), daemon=True)
        back.start()
        self._carry(near, far, self.upwards)
        back.join()
        near.close()
        far.close()

    def _carry(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        try:
            while block := source.recv(_BLOCK):
                if slow:
                    time.sleep(self._wait_for(len(block)))
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for one in (source, target):
                one.close()

    def _wait_for(self, number: int) -> float:
        with self._lock:
            self.carried += number
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + number / self.speed
            return max(0.0, self._free_at - now)
