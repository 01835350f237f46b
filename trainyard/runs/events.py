"""What a run tells while it goes on, as values: the Python API hands them on as they are, a terminal draws some of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StateEvent:
    """Something has happened to an attempt, and it is in this state now."""

    run: str
    """``user/label``"""
    attempt: int
    kind: str
    """What has happened, as ``invoke show`` lists it: prepared, up, rented, started, trained, committed, failed, ended, ..."""
    state: str
    """How far it has come, or how it has ended: its first word is what the list of runs can be asked for."""
    dollars: float
    """What it has cost so far."""


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """The newest figures of a training. None is what it has not told (yet)."""

    step: int
    steps: int
    """Of how many; 0 where nobody knows."""
    loss: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    dollars: float
    """What the attempt has cost so far."""
    eta: float | None
    """Seconds of training that are left."""
    text: str
    """The same as a line that a person reads."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line of the training's log, without its end and without what steers a terminal; the log itself is kept byte for byte."""

    line: str


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """What a command prints for a person: stages, warnings, what went wrong. Not to be parsed."""

    level: Literal["info", "warning", "error"]
    text: str
