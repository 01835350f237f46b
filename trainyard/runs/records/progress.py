"""Progress of a training from ``metrics.jsonl``: step, loss, ETA, tokens per second, dollars."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TextColumn

from trainyard.jsontext import parse_json
from trainyard.runs.ui import Ui

_LINE_EVERY = 10.0
_MOST_LINES = 200
"""Lines of a program's own log that are shown of one piece of it."""
_LONGEST_LINE = 4096
_STEERING = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Escape sequences and control characters, all but the tabulator."""


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
            _number(row.get(name)) for name in ("step", "total_steps", "loss", "tokens", "tokens_per_second", "time", "lr")
        )
        if step is None:
            return False
        self.step = max(self.step, int(step))
        self.tokens = int(tokens or self.tokens)
        if loss is not None:
            self.loss = loss
            self.first_loss = loss if self.first_loss is None else self.first_loss
        if moment is not None and moment < self.since:
            return False
        if rate is not None:
            self.learning_rate = max(rate, self.learning_rate or 0.0)
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


def _number(value: object) -> float | None:
    """Return a finite number; NaN and infinity, which Python's own writer lets into JSON, are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def loss_curve(metrics: bytes) -> tuple[tuple[int, float], ...]:
    """Return step and loss of each line that tells both, in the order of steps; what was trained twice counts as it was last."""
    curve: dict[int, float] = {}
    for line in metrics.splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        step, loss = (_number(row.get(name)) for name in ("step", "loss")) if isinstance(row, dict) else (None, None)
        if step is not None and loss is not None:
            curve[int(step)] = loss
    return tuple(sorted(curve.items()))


class ProgressLine:
    """Draw the newest figures: a bar on a terminal, else a line every ten seconds and at the end."""

    def __init__(self, ui: Ui, cost: Callable[[], float], since: float = 0.0) -> None:
        self.ui, self.cost = ui, cost
        self.metrics = Metrics(since)
        self.buffer = self.rest = b""
        self.last = 0.0
        self.shown = -1
        self.bar: Progress | None = None

    def __enter__(self) -> ProgressLine:
        if self.ui.live:
            self.bar = Progress(
                TextColumn("train     "), BarColumn(bar_width=30), TextColumn("{task.fields[text]}"), console=self.ui.console
            )
            self.task = self.bar.add_task("train", total=None, text="no figures yet")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.rest:
            self.log(b"\n")
        if self.bar:
            self.bar.stop()
        elif self.metrics.step and self.metrics.step != self.shown:
            self.ui.say(f"train      {self.text()}")

    def feed(self, data: bytes) -> None:
        """Take a piece of metrics.jsonl."""
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        changed = [line for line in lines if line.strip() and self.metrics.take(line)]
        if not changed:
            return
        if self.bar:
            self.bar.update(self.task, total=self.metrics.total or None, completed=self.metrics.step, text=self.text())
        elif time.monotonic() - self.last >= _LINE_EVERY:
            self.last, self.shown = time.monotonic(), self.metrics.step
            self.ui.say(f"train      {self.text()}")

    def log(self, data: bytes) -> None:
        """Show what the program itself prints, until it reports figures; a flood is cut, the whole log is kept elsewhere."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        if self.metrics.step:
            return
        if len(lines) > _MOST_LINES:
            self.ui.say(f"           ... {len(lines) - _MOST_LINES:,} lines more, in its log")
        for line in lines[-_MOST_LINES:]:
            self.ui.say(_as_on_terminal(line))
        self.rest = self.rest[-_LONGEST_LINE:]

    def text(self) -> str:
        """Return the figures as one line."""
        m = self.metrics
        parts = [f"step {of_all(m.step, m.total)}"]
        if m.loss is not None:
            parts.append(f"loss {m.loss:.4f}")
        eta = m.eta()
        if eta is not None:
            parts.append(f"ETA {duration(eta)}")
        if m.tokens_per_second:
            parts.append(f"{m.tokens_per_second:,.0f} tokens/s")
        parts.append(f"${self.cost():.2f}")
        return "  ".join(parts)


def _as_on_terminal(line: bytes) -> str:
    """Return a line of a log as a terminal would be left with it: what a carriage return overwrote and what steers it taken out."""
    text = line.rstrip(b"\r").rpartition(b"\r")[2][:_LONGEST_LINE].decode("utf-8", "replace")
    return _STEERING.sub("", text)


def of_all(step: int, total: int) -> str:
    """Return ``38/76``, or the step alone where nobody knows of how many it is."""
    return f"{step}/{total}" if total else f"{step}"


def duration(seconds: float) -> str:
    """Return seconds as ``1h02m``, ``3m20s`` or ``12s``."""
    whole = max(0, int(seconds + 0.5))
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"
