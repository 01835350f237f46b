"""trackio: a database below ``trackers/trackio``, or the Space or server that its variables name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trainyard.runs.trackers.figures import Point
from trainyard.runs.trackers.tracked import Outcome, TrackedRun


def open_run(run: TrackedRun) -> TrackioRun:
    """Begin a run or go on with it; trackio reads where its database is when it is loaded."""
    os.environ.setdefault("TRACKIO_DIR", str(Path(run.folder) / "trackio"))
    import trackio

    opened = trackio.init(
        project=run.project, name=run.id, config={**run.config, "run": run.name}, resume="allow", embed=False, auto_log_gpu=False,
        auto_log_cpu=False,
    )  # fmt: skip
    return TrackioRun(opened)


class TrackioRun:
    """One run at trackio."""

    def __init__(self, run: object) -> None:
        self._run = run

    def send(self, points: Sequence[Point]) -> bool:
        """Hand points over."""
        for point in points:
            self._run.log(dict(point.figures), step=point.step)  # type: ignore[attr-defined]
        return False

    def close(self, outcome: Outcome | None) -> None:
        """Wait until they are written; trackio has no word for how a run ended."""
        self._run.finish()  # type: ignore[attr-defined]
