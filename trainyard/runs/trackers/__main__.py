"""The process that feeds a tracker: ``python -m trainyard.runs.trackers RUN-FOLDER TRACKER``.

Its variables come by stdin, so that neither a command line nor the environment of a process shows a key. The other end of
stdin is the controller's: when it is closed, whyever, nothing more will come.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from trainyard.jsontext import parse_json
from trainyard.runs.trackers.feed import feed
from trainyard.runs.trackers.tracked import TrackerFolder
from trainyard.secret import Secret, names_secret


def _wait(seconds: float) -> bool:
    ready, _, _ = select.select([0], [], [], seconds)
    return not ready or os.read(0, 1) != b""


if __name__ == "__main__":
    head = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        head += byte
    variables: dict[str, str] = parse_json(bytes(head)) if head else {}
    os.environ.update(variables)
    known = [Secret(value) for name, value in variables.items() if names_secret(name) or "@" in value]  # no message shows one
    feed(TrackerFolder(Path(sys.argv[1])), sys.argv[2], _wait)
