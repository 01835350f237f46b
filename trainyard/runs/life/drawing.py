"""Have the curves of a run that is over drawn beside its files at home: the same `invoke plot`, which nobody waits for."""

from __future__ import annotations

import contextlib
import importlib.util
import sys

from trainyard.config import PROJECT
from trainyard.processes import start_apart
from trainyard.runs.context import CommandContext
from trainyard.runs.records.curves import panels_of
from trainyard.runs.records.home import PICTURE
from trainyard.runs.records.record import RunFolder, RunRecord


def begin(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Start the process that draws, where there is something to draw and matplotlib to draw with; a result's own file stays as it is."""
    to = record.id.home(context.places.root / "out") / PICTURE
    if to.exists() or not folder.metrics.is_file() or importlib.util.find_spec("matplotlib") is None:
        return
    if not any(len(each.curve) > 1 for panel in panels_of(folder.metrics.read_bytes()) for each in panel.curves):
        return
    words = [sys.executable, "-m", PROJECT, "plot", f"{record.id}/{record.attempt}", "--png", str(to)]
    with contextlib.suppress(OSError):
        start_apart(words, cwd=context.places.root, env=context.env).close()
