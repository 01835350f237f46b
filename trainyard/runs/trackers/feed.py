"""Feed one tracker from a run's ``metrics.jsonl`` while its controller lives, and what is missing afterwards.

It is a process of its own: a tracker that is slow, down or broken costs the training nothing, and another tracker neither.
What a tracker is not known to have is told again: after a pause, by the next process, at the end of a later command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from trainyard.retries import Backoff
from trainyard.runs.trackers.figures import Point, point_of
from trainyard.runs.trackers.tracked import Feed, Outcome, TrackedRun, TrackerFolder
from trainyard.runs.trackers.tracker import Opener, Tracker, missing, open_tracker
from trainyard.secret import hide

EVERY = 2.0
"""Seconds between two looks for new lines."""
_AT_ONCE = 200
"""Points that are handed over together."""
_PAUSES = Backoff(10.0, 300.0, factor=3.0, chance=0.2)
_LONGEST = 300
"""Characters of what a library says of its trouble."""

Wait = Callable[[float], bool]
"""Waits so many seconds and tells whether the controller lives; at once where it does not."""


def feed(folder: TrackerFolder, name: str, wait: Wait, *, opener: Opener = open_tracker) -> None:
    """Feed a tracker until the controller has gone; what has failed by then is left to a later process."""
    run = folder.run()
    if run is None:
        return
    with folder.feeding(name):
        _go_on_from(folder, name, run)
        lives, failures = True, 0
        while not folder.feed(name).done:
            feeding = _Feeding(folder, name, run, opener)
            try:
                lives = feeding.go_on(wait, lives=lives)
                return
            except Exception as error:  # whatever a library raises
                failures += 1
                feeding.give_up(name, error)
            if not lives or not wait(_PAUSES.pause(failures)):
                if not lives:
                    return
                lives = False  # one more try, now that the run is over


def _go_on_from(folder: TrackerFolder, name: str, run: TrackedRun) -> None:
    """Take over how far the attempt before has come with a tracker, once nobody tells it of that one any more."""
    if folder.feed(name).step is None and run.after is not None:
        before = TrackerFolder(Path(run.after))
        if name in before.trackers():
            with before.feeding(name):
                step = before.feed(name).step
            folder.save(name, Feed(through=-1 if step is None else step, step=step))


class _Feeding:
    """One try: a tracker is opened with the first point, and fed from what it is known to have."""

    def __init__(self, folder: TrackerFolder, name: str, run: TrackedRun, opener: Opener) -> None:
        self.folder, self.name, self.run, self.opener = folder, name, run, opener
        self.known = folder.feed(name)
        self.offset, self.step = self.known.offset, self.known.step
        self.tracker: Tracker | None = None

    def go_on(self, wait: Wait, *, lives: bool) -> bool:
        """Feed until the controller has gone, then close; return that it has gone."""
        while True:
            last = not lives
            for points in self._batches():
                if self._open().send(points):
                    self._keep()
            if last:
                break
            lives = wait(EVERY)
        self._close(self.folder.outcome())
        return False

    def give_up(self, name: str, error: Exception) -> None:
        """Write down why nothing could be told, in place of what the library says in pages."""
        lines = str(error).strip().splitlines() or [""]
        said = f"{type(error).__name__}: {lines[0][:_LONGEST]}" if lines[0] else type(error).__name__
        self.known.problem = missing(name) if isinstance(error, ImportError) else hide(said)
        self.folder.save(name, self.known)

    def _close(self, outcome: Outcome | None) -> None:
        if outcome is not None and self.tracker is None and self.known.step is not None:
            self._open()  # all was told before the run's end
        if self.tracker is not None:
            self.tracker.close(outcome)
        self._keep(done=outcome is not None)

    def _keep(self, *, done: bool = False) -> None:
        self.known = Feed(self.offset, self.step, self.known.through, done)
        self.folder.save(self.name, self.known)

    def _open(self) -> Tracker:
        if self.tracker is None:
            self.tracker = self.opener(self.name, self.run)
        return self.tracker

    def _batches(self) -> Iterator[list[Point]]:
        """Yield new points, some hundred at once, with ``offset`` and ``step`` behind them; the last line may not be whole yet."""
        if not self.folder.metrics.is_file():
            return
        points: list[Point] = []
        with self.folder.metrics.open("rb") as file:
            file.seek(0, 2)
            if file.tell() < self.offset:
                self.offset = 0  # it was fetched anew, and is another one
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.offset += len(line)
                point = point_of(line)
                if point is not None and not self._was_told(point):
                    points.append(point)
                    self.step = point.step if self.step is None else max(self.step, point.step)
                if len(points) == _AT_ONCE:
                    yield points
                    points = []
        if points:
            yield points

    def _was_told(self, point: Point) -> bool:
        """Tell whether an earlier attempt has told it: the figures up to its checkpoint come with that."""
        if self.known.through is not None:
            return point.step <= self.known.through
        return point.time is not None and point.time < self.run.since
