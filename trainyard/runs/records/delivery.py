"""Where a result goes after its run, and how far that has come: ``delivery.json`` and ``delivery.log`` in the run's folder."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainyard.clock import format_time
from trainyard.errors import Busy, UserError
from trainyard.filelock import acquire_now, closing
from trainyard.jsontext import parse_json
from trainyard.runs.records import codec
from trainyard.runs.records.record import RunFolder, write_json

_STARTS = 30.0
"""Seconds in which a process that was started may not hold its lock yet."""
_REPO = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
"""What the Hub allows: OWNER/NAME."""
FORMS = "local, local:DIR or hub:OWNER/REPO"


DeliveryPhase = Literal["begun", "done", "failed"]


@dataclass(frozen=True, slots=True)
class DeliveryTarget:
    """Where to: ``place`` is a folder (empty: the usual one), or a repository of the Hub."""

    kind: Literal["local", "hub"]
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}" if self.place else self.kind


def target_of(text: str, base: Path) -> DeliveryTarget:
    """Return the target that a text names, a folder seen from ``base``; raises UserError for what is none."""
    kind, colon, place = text.partition(":")
    if kind == "local" and bool(colon) == bool(place):
        return DeliveryTarget("local", str(base / Path(place).expanduser()) if place else "")
    if kind == "hub" and _REPO.fullmatch(place):
        return DeliveryTarget("hub", place)
    raise UserError(f"'{text}' is no place to deliver to", hint=f"It is {FORMS}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """How far a delivery has come. ``where``: a folder, or a repository's address; times are UTC text."""

    to: str
    state: DeliveryPhase
    at: str
    where: str | None = None
    error: str | None = None


def read_state(folder: RunFolder) -> DeliveryState | None:
    """Return how far the run's delivery has come, None where none was begun (or its note cannot be read)."""
    try:
        return codec.read(DeliveryState, parse_json((folder.path / "delivery.json").read_bytes()))
    except (OSError, ValueError):
        return None


def write_state(folder: RunFolder, state: DeliveryState) -> None:
    """Note how far it has come."""
    write_json(folder.path / "delivery.json", dataclasses.asdict(state))


def now_state(to: DeliveryTarget, state: DeliveryPhase, where: str | None = None, error: str | None = None) -> DeliveryState:
    """Return a state of this moment."""
    return DeliveryState(to=str(to), state=state, at=format_time(time.time()), where=where, error=error)


def log_of(folder: RunFolder) -> Path:
    """Return the log of the delivery in the background."""
    return folder.path / "delivery.log"


@contextmanager
def delivering(folder: RunFolder) -> Iterator[None]:
    """Hold the right to deliver the run's result; raises Busy while another living process does."""
    handle = acquire_now(folder.path / "delivery.lock")
    if handle is None:
        raise Busy(f"another process delivers this result; its log: {log_of(folder)}")
    with closing(handle):
        yield


def is_under_way(folder: RunFolder) -> bool:
    """Tell whether a living process delivers, or was started a moment ago."""
    try:
        if time.time() - (folder.path / "delivery.json").stat().st_mtime < _STARTS:
            return True
        with delivering(folder):
            return False
    except OSError:
        return False
    except Busy:
        return True


def line_of(folder_run: str, state: DeliveryState, *, under_way: bool) -> str:
    """Return what a person is told of a delivery; ``folder_run`` is how the run is named in a command."""
    again = f"invoke deliver {folder_run}"
    if state.state == "done":
        return f"delivered to {state.where}"
    if state.state == "failed":
        return f"delivery to {state.to} failed: {state.error}; again: {again}"
    return f"delivery to {state.to} under way" if under_way else f"delivery to {state.to} was cut off; go on with: {again}"
