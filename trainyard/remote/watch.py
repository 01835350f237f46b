"""Notice that a link is dead although TCP believes it lives.

TCP_USER_TIMEOUT sees a vanished peer, but not a proxy or jump host that goes on acknowledging for a pod that
is gone, and paramiko sends keepalives without ever looking for the answer (measured: still hanging after
80 s). So the server is asked something, and its silence ends the connection.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from typing import Any

import paramiko
from paramiko.common import MSG_SERVICE_ACCEPT, MSG_SERVICE_REQUEST, MSG_USERAUTH_FAILURE, MSG_USERAUTH_REQUEST, MSG_USERAUTH_SUCCESS
from paramiko.packet import Packetizer

_ANSWERED = frozenset({MSG_SERVICE_REQUEST, MSG_USERAUTH_REQUEST})
_ANSWERS = frozenset({MSG_SERVICE_ACCEPT, MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS})


class Hearing(Packetizer):  # type: ignore[misc]
    """Paramiko's packets, with the time of the last one that came: any traffic is a sign of life."""

    heard = 0.0
    round_trip = math.inf
    """Seconds that the fastest answer of the login took: the server need start nothing for it."""
    _asked: float | None = None

    def send_message(self, data: paramiko.Message) -> None:
        """Send one packet; of those that are answered at once, note when."""
        if self._asked is None and data.asbytes()[0] in _ANSWERED:
            self._asked = time.monotonic()
        super().send_message(data)

    def read_message(self) -> Any:
        """Read one packet and note when."""
        message = super().read_message()
        self.heard = time.monotonic()
        if self._asked is not None and message[0] in _ANSWERS:
            self.round_trip = min(self.round_trip, self.heard - self._asked)
            self._asked = None
        return message


class Watch:
    """Ask a silent server whether it is there; after ``patience`` seconds of silence cut the connection."""

    def __init__(self, transport: paramiko.Transport, *, patience: float) -> None:
        self._transport = transport
        self._patience = patience
        self._stopped = threading.Event()

    def start(self) -> None:
        """Watch from a daemon thread until stop() or the end of the connection."""
        threading.Thread(target=self._run, daemon=True, name="link-watch").start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _run(self) -> None:
        asked: float | None = None
        while not self._stopped.wait(min(1.0, self._patience / 6)) and self._transport.is_active():
            now, heard = time.monotonic(), self._transport.packetizer.heard
            if now - heard < self._patience / 3:
                asked = None
            elif asked is None:
                asked = now
                self._ask()
            elif now - max(asked, heard) > self._patience:
                _cut(self._transport.sock)
                return

    def _ask(self) -> None:
        """Send a request that any server answers (with a refusal if it does not know it)."""

        def ask() -> None:
            with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
                self._transport.global_request("keepalive@openssh.com", wait=True)

        # A thread of its own: on a dead link even sending blocks.
        threading.Thread(target=ask, daemon=True, name="link-ask").start()


def _cut(sock: Any) -> None:
    """Wake everything that waits on the socket with an end of file."""
    with contextlib.suppress(OSError):
        if isinstance(sock, socket.socket):
            sock.shutdown(socket.SHUT_RDWR)
        else:
            sock.close()
