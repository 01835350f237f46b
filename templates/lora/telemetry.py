"""What the run tells while it works: metrics.jsonl (append-only), status.json (atomic), and the wish to stop.

Standard library only; what the trainer calls is in callbacks.py.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from typing import Any, NoReturn

STOPPED = 75  # exit code: saved and stopped on request
RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
IS_MAIN = RANK == 0
"""Of several processes that train together (launch.py) this one alone writes into the output."""


class Status:
    """status.json under OUTPUT_DIR: one object, replaced as a whole."""

    def __init__(self, output: str) -> None:
        self._path = os.path.join(output, "status.json")
        self._known: dict[str, Any] = {"step": 0, "total_steps": None, "loss": None}

    def write(self, state: str, message: str, **known: Any) -> None:
        self._known.update(known)
        if not IS_MAIN:
            return
        partial = self._path + ".partial"
        with open(partial, "w", encoding="utf-8") as out:
            json.dump({"state": state, **self._known, "message": message, "time": time.time()}, out)
        os.replace(partial, self._path)


class Stop:
    """Turn TERM and INT into a wish that the training reads between two steps."""

    def __init__(self, status: Status, name: str = "train") -> None:
        self._name = name
        self.wanted = False
        self.training = False
        self._status = status
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self.wanted = True
        if not self.training and IS_MAIN:
            # Nothing is trained yet that is not in a checkpoint already.
            self._status.write("stopped", "stopped on request before the first step")
            print(f"{self._name}: stopped on request", flush=True)
            os._exit(STOPPED)
        print(f"{self._name}: stop requested, saving after this step", flush=True)


def leave(code: int) -> NoReturn:
    """End with a code that no further signal changes: an interpreter that ends gives TERM back to the system, which kills."""
    if not IS_MAIN:  # the others' groups and threads are of no use any more, and may hang
        sys.stdout.flush()
        os._exit(code)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def append_line(path: str, value: dict[str, Any]) -> None:
    """Append one whole line by one write; NaN and infinity, which are no JSON, are null."""
    if not IS_MAIN:
        return
    value = {key: None if isinstance(item, float) and not math.isfinite(item) else item for key, item in value.items()}
    data = (json.dumps(value, allow_nan=False) + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)


def cut_torn_line(path: str) -> None:
    """Cut what a crash in the middle of a write left of a line; readers take whole lines only, so it moves nobody."""
    if IS_MAIN and os.path.exists(path):
        with open(path, "rb+") as file:
            data = file.read()
            if data and not data.endswith(b"\n"):
                file.truncate(data.rfind(b"\n") + 1)
