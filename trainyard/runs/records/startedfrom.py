"""What a record keeps of the checkpoint or the adapter that a training began with, and how that is found again."""

from __future__ import annotations

from pathlib import Path

from trainyard.runs.records.parts import StartedFrom
from trainyard.storage.checkpoints import Checkpoint, CheckpointPlace
from trainyard.storage.manifest import ResultKey


def started_from(checkpoint: Checkpoint) -> StartedFrom:
    """Return what a record keeps of a checkpoint."""
    place = checkpoint.place
    return StartedFrom(
        run=str(place.key), path=place.path, manifest_sha256=checkpoint.manifest_sha256, prefix=place.prefix,
        home=str(place.home) if place.home else None,
    )  # fmt: skip


def place_of(started: StartedFrom) -> CheckpointPlace:
    """Return where it lies."""
    return CheckpointPlace(key_of(started.run), started.path, started.prefix, Path(started.home) if started.home else None)


def key_of(run: str) -> ResultKey:
    """Return the attempt that ``user/label/number`` names."""
    user, label, number = run.split("/")
    return ResultKey(user, label, int(number))
