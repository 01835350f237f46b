"""Progress of a training from ``metrics.jsonl``: step, loss, ETA, tokens per second, dollars."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from trainyard.jsontext import parse_json
from trainyard.runs.events import ProgressEvent
from trainyard.runs.ui import Listener

_LONGEST_LINE = 4096


Curve = tuple[tuple[int, float], ...]
"""Step and value of a figure, in the order of steps."""


@dataclass(slots=True)
class Metrics:
    """The newest figures of a training.

    Lines from before ``since`` (epoch seconds) came with a checkpoint of an earlier attempt: they tell how far it was, and
    nothing of this attempt's pace and plan.
    """

    since: float = 0.0
    step: int = 0
    total: int = 0
    loss: float | None = None
    first_loss: float | None = None
    tokens: int = 0
    tokens_per_second: float | None = None
    learning_rate: float | None = None
    """The largest of its schedule."""
    rate: float | None = None
    """The newest one."""
    first_time: float | None = None
    first_step: int = 0
    last_time: float | None = None
    data: dict[str, object] | None = None
    """What became of the rows: how many were read, cut, dropped, skipped."""

    def take(self, line: bytes) -> bool:
        """Take one line into account; False for one that is no progress: no metrics object, or an earlier attempt's."""
        try:
            row = parse_json(line)
        except ValueError:
            return False
        if not isinstance(row, dict):
            return False
        if isinstance(row.get("data"), dict):
            self.data = row["data"]
            self.first_time = None  # each start tells it: the pace is that of the newest one
        step, total, loss, tokens, speed, moment, rate = (
            number_of(row.get(name)) for name in ("step", "total_steps", "loss", "tokens", "tokens_per_second", "time", "lr")
        )
        if step is None:
            return False
        self.step = max(self.step, int(step))
        self.tokens = int(tokens or self.tokens)
        if _is_lost(row.get("loss")):
            self.loss = None  # what it was before is not what the training has come to
        if loss is not None:
            self.loss = loss
            self.first_loss = loss if self.first_loss is None else self.first_loss
        if moment is not None and moment < self.since:
            return False
        if rate is not None:
            self.rate, self.learning_rate = rate, max(rate, self.learning_rate or 0.0)
        self.total = int(total or self.total)
        self.tokens_per_second = self.tokens_per_second if speed is None else speed
        if moment is not None:
            self.last_time = moment
            if self.first_time is None:
                self.first_time, self.first_step = moment, int(step)
        return True

    def eta(self) -> float | None:
        """Return the seconds left, None before two points are known."""
        if self.first_time is None or self.last_time is None or self.step <= self.first_step or not self.total:
            return None
        return (self.total - self.step) * (self.last_time - self.first_time) / (self.step - self.first_step)


def pace_of(metrics: bytes) -> float | None:
    """Return the seconds between two steps, which is what most of them took; None where no two follow each other."""
    moments: dict[int, float] = {}
    for line in metrics.splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        step, moment = (number_of(row.get(name)) for name in ("step", "time")) if isinstance(row, dict) else (None, None)
        if step is not None and moment is not None:
            moments.setdefault(int(step), moment)
    paces = [(moments[step] - moments[before]) / (step - before) for before, step in itertools.pairwise(sorted(moments))]
    pace = statistics.median(paces) if paces else 0.0
    return pace if pace > 0 else None


def number_of(value: object) -> float | None:
    """Return a finite number; NaN and infinity, which Python's own writer lets into JSON, are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def loss_curve(metrics: bytes, figure: str = "loss") -> Curve:
    """Return step and loss (or another ``figure``) of each line that tells both, by steps; what was trained twice counts as it was last."""
    curve: dict[int, float] = {}
    for line in metrics.splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        step, loss = (number_of(row.get(name)) for name in ("step", figure)) if isinstance(row, dict) else (None, None)
        if step is not None and loss is not None:
            curve[int(step)] = loss
    return tuple(sorted(curve.items()))


def has_diverged(metrics: bytes, figure: str) -> bool:
    """Tell whether the last thing that a training has told of a figure is NaN or infinite."""
    for line in reversed(metrics.splitlines()):
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get(figure), (int, float)):
            return _is_lost(row[figure])
    return False


def _is_lost(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


class ProgressLine:
    """Read what a training tells of itself, piece by piece, and hand the newest figures and the lines of its log on."""

    def __init__(self, ui: Listener, cost: Callable[[], float], since: float = 0.0, *, own: bool = True) -> None:
        self.ui, self.cost, self.own = ui, cost, own
        self.metrics = Metrics(since)
        self.buffer = self.rest = b""
        self.shown = contextlib.ExitStack()

    def __enter__(self) -> ProgressLine:
        self.show = self.shown.enter_context(self.ui.progress())
        return self

    def __exit__(self, *_: object) -> None:
        if self.rest:
            self.log(b"\n")
        self.shown.close()

    def feed(self, data: bytes) -> None:
        """Take a piece of metrics.jsonl."""
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        if [line for line in lines if line.strip() and self.metrics.take(line)]:
            self.show(self.event())

    def log(self, data: bytes) -> None:
        """Take a piece of what the program itself prints: a person sees it until it reports figures."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.rest = self.rest[-_LONGEST_LINE:]
        if lines:
            self.ui.log(lines, shown=self.own and not self.metrics.step)

    def event(self) -> ProgressEvent:
        """Return the figures of this moment."""
        m, dollars, eta = self.metrics, self.cost(), self.metrics.eta()
        parts = [f"step {of_all(m.step, m.total)}"]
        if m.loss is not None:
            parts.append(f"loss {m.loss:.4f}")
        if eta is not None:
            parts.append(f"ETA {duration(eta)}")
        if m.tokens_per_second:
            parts.append(f"{m.tokens_per_second:,.0f} tokens/s")
        text = "  ".join([*parts, f"${dollars:.2f}"])
        return ProgressEvent(m.step, m.total, m.loss, m.rate, m.tokens_per_second, dollars, eta, text)


def of_all(step: int, total: int) -> str:
    """Return ``38/76``, or the step alone where nobody knows of how many it is."""
    return f"{step}/{total}" if total else f"{step}"


def duration(seconds: float) -> str:
    """Return seconds as ``1h02m``, ``3m20s`` or ``12s``."""
    whole = max(0, int(seconds + 0.5))
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"
