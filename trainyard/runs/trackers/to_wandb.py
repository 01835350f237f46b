"""Weights & Biases: a run that all attempts go on with, told when ``finish`` has returned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import wandb

from trainyard.runs.trackers.figures import Point
from trainyard.runs.trackers.tracked import Outcome, TrackedRun

_INIT, _FINISH = 60.0, 120.0
"""Seconds in which the service must answer; it is asked again later."""


def open_run(run: TrackedRun) -> WandbRun:
    """Begin a run there or go on with it. It is told nothing of this machine: neither its load nor the code that lies here."""
    Path(run.folder).mkdir(parents=True, exist_ok=True)  # below it, wandb makes its own
    settings = wandb.Settings(
        silent=True, console="off", init_timeout=_INIT, finish_timeout=_FINISH, finish_timeout_raises=True, disable_code=True,
        disable_git=True, save_code=False, x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
        x_save_requirements=False,
    )  # fmt: skip
    with _given_up():
        opened = wandb.init(
            project=run.project, id=run.id, name=run.name, config=dict(run.config), tags=run.tags, resume="allow", dir=run.folder,
            settings=settings,
        )  # fmt: skip
    return WandbRun(opened)


@contextmanager
def _given_up() -> Iterator[None]:
    """End wandb's own process when something fails: else it says of the next try that the run's id is in use."""
    try:
        yield
    except Exception:
        wandb.teardown()
        raise


class WandbRun:
    """One run at Weights & Biases."""

    def __init__(self, run: wandb.Run) -> None:
        self._run = run

    def send(self, points: Sequence[Point]) -> bool:
        """Hand points over, but for steps before the one that the service has: it takes none back."""
        for point in points:
            if point.step >= self._run.step:
                moment = {} if point.time is None else {"_timestamp": point.time}
                self._run.log({**point.figures, **moment}, step=point.step)
        return False

    def close(self, outcome: Outcome | None) -> None:
        """Wait until the service has all of it."""
        if outcome is not None:
            self._run.summary.update({"outcome": outcome.word, **outcome.facts})
        with _given_up():
            self._run.finish(exit_code=0 if outcome is None or outcome.success else 1)
