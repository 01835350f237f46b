"""How a program on a pod is told what to do and says how far it is: one JSON object on stdin, JSON lines on stdout.

Standard library only, Python 3.8 or newer; runs ON the pod.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import IO, Any

PROGRESS_SECONDS = 0.5


def read_order() -> dict[str, Any]:
    """Return the order on stdin; this process is as nice as it says."""
    order: dict[str, Any] = json.load(sys.stdin)
    os.nice(order.get("nice", 0))
    return order


class JsonLines:
    """JSON lines, written by several threads."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.lock = stream, threading.Lock()

    def say(self, **event: Any) -> None:
        """Write one line at once."""
        with self.lock:
            self.stream.write(json.dumps(event) + "\n")
            self.stream.flush()
