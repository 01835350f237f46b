"""``python hasty.py FILE WORDS``: a verb whose patience with store and link takes no time.

What it would have waited for a store, whole runs included, passes on a clock of its own; FILE tells others how much that was.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import types
from pathlib import Path

import botocore.endpoint

from trainyard.cli import commandline
from trainyard.clock import Clock
from trainyard.runs.life import ahead as beside
from trainyard.runs.life import roads
from trainyard.storage import ahead

AT_MOST = 0.02


class Hurry:
    """Time that passes by being waited for."""

    def __init__(self, file: Path) -> None:
        self.file, self.elapsed, self.lock = file, 0.0, threading.Lock()

    def pause(self, seconds: float) -> None:
        """Let time pass, and tell it."""
        with self.lock:
            self.elapsed += seconds
            new = self.file.with_name(f"{self.file.name}.new")
            new.write_text(repr(self.elapsed))
            os.replace(new, self.file)
        time.sleep(min(seconds, AT_MOST))


def hasten(hurry: Hurry) -> None:
    """Let a result's road, what goes ahead of it and the store's client wait by that clock."""
    vars(roads)["REAL"] = Clock(lambda: time.time() + hurry.elapsed, hurry.pause)
    vars(botocore.endpoint)["time"] = types.SimpleNamespace(sleep=hurry.pause)
    usual, within = beside.Companion._pause, ahead.Ahead._pause

    def between(self: beside.Companion) -> float:
        seconds = usual(self)
        if not self.troubles:
            return seconds
        hurry.pause(seconds)
        return AT_MOST

    def at_once(self: ahead.Ahead, seconds: float) -> None:
        hurry.pause(seconds)
        within(self, 0.0)

    beside.Companion._pause = between  # type: ignore[method-assign]
    ahead.Ahead._pause = at_once  # type: ignore[method-assign]


if __name__ == "__main__":
    hasten(Hurry(Path(sys.argv[1])))
    sys.argv = ["invoke", *sys.argv[2:]]
    commandline.main()
