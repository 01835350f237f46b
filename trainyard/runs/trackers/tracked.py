"""What a run's folder keeps for its trackers: what they are told of the run, how far each has come, how the run ended."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from trainyard.filelock import acquire_now, closing, hold_lock
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.runs.records import codec

Plain = str | float | bool | None
_T = TypeVar("_T", "TrackedRun", "Feed", "Outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """One attempt as trackers know it. All attempts of a run that was resumed have the same ``id`` and ``name``."""

    id: str
    name: str
    project: str
    config: dict[str, Plain]
    tags: list[str]
    folder: str
    """Where trackers keep on this machine what they keep here."""
    since: float = 0.0
    """Epoch seconds; what a resumed attempt's lines tell of before was told by the one that it goes on from."""
    after: str | None = None
    """The folder of the attempt that it goes on from, where this machine has it."""


@dataclass(slots=True)
class Feed:
    """How far one tracker has come: what it is known to have."""

    offset: int = 0
    """Bytes of metrics.jsonl."""
    step: int | None = None
    """The highest step."""
    through: int | None = None
    """Step up to which the attempt before has told it, where that is known."""
    done: bool = False
    """It knows how the run ended, too."""
    problem: str = ""
    """Why nothing could be told the last time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run has ended; ``facts`` are figures and places of its summary."""

    word: str
    facts: dict[str, Plain]

    @property
    def success(self) -> bool:
        """Tell whether it went well."""
        return self.word == "succeeded"


class TrackerFolder:
    """The folder ``trackers/`` of a run. One process at a time writes a tracker's feed, the controller everything else."""

    def __init__(self, run: Path) -> None:
        self.metrics = run / "metrics.jsonl"
        self._path = run / "trackers"

    def begin(self, run: TrackedRun, trackers: Sequence[str]) -> None:
        """Write down what trackers are told; raises OSError."""
        self._path.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path / "run.json", json.dumps(asdict(run)), durable=False, mode=0o600)
        for name in trackers:
            if not self._feed(name).exists():
                self.save(name, Feed())

    def run(self) -> TrackedRun | None:
        """Return what trackers are told; None where nothing was written."""
        return self._read(TrackedRun, self._path / "run.json")

    def trackers(self) -> list[str]:
        """Return the trackers that the run has."""
        return sorted(path.name.removesuffix(".feed") for path in self._path.glob("*.feed"))

    def feed(self, name: str) -> Feed:
        """Return how far a tracker has come."""
        return self._read(Feed, self._feed(name)) or Feed()

    def save(self, name: str, feed: Feed) -> None:
        """Write down how far a tracker has come; what works again may be told anew when it fails."""
        write_atomic(self._feed(name), json.dumps(asdict(feed)), durable=False, mode=0o600)
        if not feed.problem:
            self._mark(name).unlink(missing_ok=True)

    def touched(self, name: str) -> float:
        """Return when something was last written down of a tracker, in epoch seconds."""
        with contextlib.suppress(OSError):
            return self._feed(name).stat().st_mtime
        return 0.0

    def outcome(self) -> Outcome | None:
        """Return how the run has ended; None while it may go on."""
        return self._read(Outcome, self._path / "outcome.json")

    def end(self, outcome: Outcome) -> None:
        """Write down how the run has ended."""
        write_atomic(self._path / "outcome.json", json.dumps(asdict(outcome)), durable=False, mode=0o600)

    def first_told(self, name: str) -> bool:
        """Tell whether nobody has been told yet that a tracker cannot be reached, and remember that somebody is now."""
        try:
            self._mark(name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    @contextmanager
    def feeding(self, name: str) -> Iterator[None]:
        """Hold the right to feed a tracker, waiting for who has it."""
        with hold_lock(self._path / f"{name}.lock"):
            yield

    def is_fed(self, name: str) -> bool:
        """Tell whether a process feeds a tracker now."""
        handle = acquire_now(self._path / f"{name}.lock")
        if handle is None:
            return True
        with closing(handle):
            return False

    def _feed(self, name: str) -> Path:
        return self._path / f"{name}.feed"

    def _mark(self, name: str) -> Path:
        return self._path / f"{name}.told"

    def _read(self, shape: type[_T], path: Path) -> _T | None:
        with contextlib.suppress(OSError, ValueError):  # one that is lost or damaged costs a curve some points twice
            return codec.read(shape, parse_json(path.read_bytes()))
        return None
