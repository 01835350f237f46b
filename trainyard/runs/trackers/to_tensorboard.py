"""TensorBoard: event files below ``trackers/tensorboard/<run>``, one more each time that a run goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from trainyard.runs.trackers.figures import Point
from trainyard.runs.trackers.tracked import Outcome, TrackedRun


def open_run(run: TrackedRun) -> EventFiles:
    """Begin a file of events."""
    return EventFiles(Path(run.folder) / "tensorboard" / run.name)


class EventFiles:
    """One file of events."""

    def __init__(self, folder: Path) -> None:
        self._writer = EventFileWriter(str(folder))
        self._begun = False

    def send(self, points: Sequence[Point]) -> bool:
        """Append points; what an earlier file tells of the same steps and later ones, TensorBoard leaves out from here on."""
        if not self._begun:
            start = SessionLog(status=SessionLog.SessionStatus.START)
            self._writer.add_event(Event(wall_time=points[0].time or time.time(), step=points[0].step, session_log=start))
            self._begun = True
        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.figures.items()]
            self._writer.add_event(Event(wall_time=point.time or time.time(), step=point.step, summary=Summary(value=values)))
        self._writer.flush()
        return True

    def close(self, outcome: Outcome | None) -> None:
        """Close the file."""
        self._writer.close()
