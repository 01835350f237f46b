"""What a tracker is to who feeds it, and which there are: data, so that a further one is a row and a module."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from trainyard.runs.trackers.figures import Point
from trainyard.runs.trackers.tracked import Outcome, TrackedRun


class Tracker(Protocol):
    """An open run at a tracker. Its library raises whatever it likes where the tracker cannot be reached."""

    def send(self, points: Sequence[Point]) -> bool:
        """Hand points over; True when they have arrived, False when only close() tells."""

    def close(self, outcome: Outcome | None) -> None:
        """Return when all has arrived; ``outcome`` is None for a run that may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerKind:
    """A service or a file format that curves go to."""

    package: str
    """What it is imported as; the extra of Trainyard that brings it is called like the tracker."""
    opener: str
    """module:function that opens a run there, loaded only where it is used: its library may not be installed."""
    variables: tuple[str, ...] = ()
    """What its library reads of the environment."""
    needed: tuple[str, ...] = ()
    """One of them must be set."""


KINDS: Mapping[str, TrackerKind] = {
    "wandb": TrackerKind(
        package="wandb", opener="trainyard.runs.trackers.to_wandb:open_run", needed=("WANDB_API_KEY", "WANDB_MODE"),
        variables=("WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY", "WANDB_BASE_URL"),
    ),
    "tensorboard": TrackerKind(package="tensorboard", opener="trainyard.runs.trackers.to_tensorboard:open_run"),
    "trackio": TrackerKind(
        package="trackio", opener="trainyard.runs.trackers.to_trackio:open_run",
        variables=("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "HF_TOKEN"),
    ),
    "mlflow": TrackerKind(
        package="mlflow", opener="trainyard.runs.trackers.to_mlflow:open_run",
        variables=("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    ),
}  # fmt: skip
"""By the name that a setting calls it."""

Opener = Callable[[str, TrackedRun], Tracker]


def open_tracker(name: str, run: TrackedRun) -> Tracker:
    """Open a run at a tracker, or go on with it; raises ImportError where its package is not installed."""
    module, _, function = KINDS[name].opener.partition(":")
    opened: Tracker = getattr(importlib.import_module(module), function)(run)
    return opened


def missing(name: str) -> str:
    """Return what is said of a tracker whose package is not installed."""
    return f"its package '{KINDS[name].package}' is not installed: pip install 'trainyard[{name}]'"
