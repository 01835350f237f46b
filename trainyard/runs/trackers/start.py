"""Start who feeds a run's trackers, tell once what cannot be reached, and have it caught up at the end of later commands.

Nothing here delays or fails a run: a small file is written, a process is started, and its end of a pipe is closed.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trainyard.errors import TrainyardError, in_short
from trainyard.processes import start_apart
from trainyard.runs.context import CommandContext
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import summarize, verdict
from trainyard.runs.trackers.describe import attempt_before, tracked_run
from trainyard.runs.trackers.tracked import Outcome, TrackerFolder
from trainyard.runs.trackers.tracker import KINDS
from trainyard.secret import names_secret
from trainyard.settings import reader
from trainyard.settings.variables import never_sent

_LOOK_EVERY = 10.0
_AGAIN = 60.0
"""Seconds between two tries to catch up at the end of commands."""
_DAYS = 7
"""A tracker that could not be reached for so long is given up."""


@contextmanager
def tracked(context: CommandContext, record: RunRecord, folder: RunFolder) -> Iterator[None]:
    """Have a run's trackers fed while the block lasts, and told at its end if the run has ended."""
    feeders: list[IO[bytes]] = []
    if not record.reached("ended"):
        feeders = _begin(context, record, folder)
    try:
        yield
    finally:
        if feeders:
            with contextlib.suppress(OSError):
                _end(context, record, folder)
        for feeder in feeders:
            with contextlib.suppress(OSError):
                feeder.close()


def _begin(context: CommandContext, record: RunRecord, folder: RunFolder) -> list[IO[bytes]]:
    try:
        settings = reader.partly(context.places.root, record.environment, "trackers", "tracker_project")
        if not settings.trackers:
            return []
        place = TrackerFolder(folder.path)
        run = tracked_run(record, context.places, settings.tracker_project)
        place.begin(run, settings.trackers)
        waiting = _waiting(context)
        waiting.mkdir(parents=True, exist_ok=True)
        (waiting / _mark(record.id)).touch()
        if record.resumed_from is not None:
            # What the attempt before still had to tell comes with the checkpoint that this one goes on from.
            (waiting / _mark(attempt_before(record))).unlink(missing_ok=True)
        return [_start(context, folder.path, name) for name in dict.fromkeys(settings.trackers)]
    except (OSError, TrainyardError) as error:
        context.ui.warn(f"trackers are not told of {record.id}: {in_short(error)}")
        return []


def _end(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Write down how the run has ended, before whoever feeds its trackers learns that nothing more will come."""
    if record.reached("ended"):
        summary = summarize(record, folder)
        word = verdict(success=summary.success, cancelled=summary.cancelled, stopped=summary.stopped)
        facts = {"cost_dollars": round(summary.cost, 4), "result": summary.s3_url}
        TrackerFolder(folder.path).end(Outcome(word, facts))
        (_waiting(context) / _mark(record.id)).touch()  # its week begins now


class TrackerTroubles:
    """Says once, while a run is followed, that a tracker cannot be reached."""

    def __init__(self, context: CommandContext, folder: RunFolder) -> None:
        self._context, self._place = context, TrackerFolder(folder.path)
        self._trackers = self._place.trackers()
        self._looked = time.monotonic()

    def look(self, now: float) -> None:
        """Look now and then; costs nothing where a run has no trackers."""
        if self._trackers and now - self._looked > _LOOK_EVERY:
            self._looked = now
            with contextlib.suppress(OSError):
                _tell(self._context, self._place, self._trackers)


def catch_up(context: CommandContext, now: float) -> None:
    """At the end of a verb: have told what trackers could not be told before, and forget what is told or too old."""
    waiting = _waiting(context)
    if not waiting.is_dir():
        return
    for mark in waiting.iterdir():
        run = context.places.runs.joinpath(*mark.name.split("."))
        place = TrackerFolder(run)
        behind = [name for name in place.trackers() if not place.feed(name).done]
        if not behind or now - mark.stat().st_mtime > _DAYS * 86400:
            mark.unlink(missing_ok=True)
            continue
        _tell(context, place, behind)
        over = place.outcome() is not None
        for name in behind:
            if over and now - place.touched(name) > _AGAIN and not place.is_fed(name):
                _start(context, run, name).close()


def _tell(context: CommandContext, place: TrackerFolder, names: Sequence[str]) -> None:
    for name in names:
        if (problem := place.feed(name).problem) and place.first_told(name):
            context.ui.warn(f"{name} is not told of this run: {problem}\nThe training does not need it; it is tried again")


def _waiting(context: CommandContext) -> Path:
    return context.places.trackers / "waiting"


def _mark(run: RunId) -> str:
    return f"{run.user}.{run.label}.{run.attempt}"


def _start(context: CommandContext, run: Path, name: str) -> IO[bytes]:
    """Start the process that feeds a tracker and return the pipe that holds it: nobody waits for it, and no zombie of it is left."""
    secrets = never_sent() | {variable for variable in context.env if names_secret(variable)}
    env = {variable: value for variable, value in context.env.items() if variable not in secrets}
    own = {variable: context.env[variable] for variable in KINDS[name].variables if variable in context.env}
    pipe = start_apart([sys.executable, "-m", __package__, str(run), name], cwd=context.places.root, env=env)
    with contextlib.suppress(BrokenPipeError):
        pipe.write(json.dumps(own).encode() + b"\n")
        pipe.flush()
    return pipe
