"""Hand a message to this pod's watchdog and print its answer. One file, standard library only, Python 3.8 or newer.

Runs ON the pod, sent with each message: what it carries goes from the SSH channel into the watchdog's memory and nowhere else.

    tell.py LEASE POD    the message, packed, on stdin -> the answer, JSON; exit 3 when no watchdog listens
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import sys


def main(arguments: list[str]) -> int:
    """Try the two names that a pod's watchdog may have: clouds of ours give their pods no id of their own."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # closed to other processes of this user, as the watchdog is
    message = sys.stdin.buffer.read()
    lease, pod = arguments
    for name in (pod, ""):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            try:
                connection.connect(f"\0trainyard-watchdog-{lease}-{name}")
            except OSError:
                continue
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                sys.stdout.buffer.write(answer.read())
            return 0
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
