"""The figures of runs as curves: each file is read once, from where it was read to, and kept thin."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from trainyard.jsontext import parse_json
from trainyard.runs.records.progress import number_of

_MOST, _PIECE, _BOOKS, _NAMES = 2000, 1 << 22, 64, 40
"""Points of a curve, bytes that are read at once, runs that are kept, figures of a run."""
_ASIDE = frozenset(("step", "total_steps", "time", "tokens"))


class RunCurves:
    """The curves of one metrics.jsonl, as far as it was read. Twice as many points as are shown are kept at most."""

    def __init__(self) -> None:
        self.next = 0
        """The byte from which on it was not read."""
        self.points: dict[str, dict[int, float]] = {}
        self.reading = threading.Lock()

    def read(self, path: Path) -> None:
        """Take in what the file has more than at the last time; one that is shorter was begun anew."""
        with self.reading, path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self.next:
                self.next, self.points = 0, {}
            file.seek(self.next)
            while piece := file.read(_PIECE):
                whole = piece[: piece.rfind(b"\n") + 1]
                if not whole:
                    return
                self.take(whole)
                self.next += len(whole)
                file.seek(self.next)

    def take(self, lines: bytes) -> list[dict[str, float]]:
        """Take whole lines in, and return what they say."""
        rows = [row for row in map(row_of, lines.splitlines()) if row]
        for row in rows:
            step = int(row["step"])
            for name, value in row.items():
                if name not in _ASIDE and (name in self.points or len(self.points) < _NAMES):
                    self.points.setdefault(name, {})[step] = value
        for name, points in self.points.items():
            if len(points) > 2 * _MOST:
                self.points[name] = thin(points)
        return rows

    def last(self, name: str) -> float | None:
        """Return the newest value of a figure."""
        with self.reading:
            points = self.points.get(name)
            return points[max(points)] if points else None

    def shown(self) -> dict[str, object]:
        """Return what a page draws, and from which byte on more may come."""
        with self.reading:
            curves = {name: thin(points) for name, points in sorted(self.points.items())}
            listed = {name: (sorted(points), [points[step] for step in sorted(points)]) for name, points in curves.items()}
            return {"curves": listed, "next": self.next}


class CurveShelf:
    """The curves of the runs that were looked at last."""

    def __init__(self) -> None:
        self.books: OrderedDict[Path, RunCurves] = OrderedDict()
        self.lock = threading.Lock()

    def of(self, path: Path) -> RunCurves:
        """Return a file's curves as they are now; none of one that is not there."""
        with self.lock:
            book = self.books.setdefault(path, RunCurves())
            self.books.move_to_end(path)
            while len(self.books) > _BOOKS:
                self.books.popitem(last=False)
        try:
            book.read(path)
        except FileNotFoundError:
            return RunCurves()
        return book


SHELF = CurveShelf()


def row_of(line: bytes) -> dict[str, float] | None:
    """Return the finite numbers of a line that has a step; None for any other."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    numbers = {str(name)[:64]: number for name, value in row.items() if (number := number_of(value)) is not None}
    return numbers if "step" in numbers else None


def thin(points: Mapping[int, float], most: int = _MOST) -> dict[int, float]:
    """Return at most so many points (from 4 on): of each stretch the lowest and the highest, and the first and the last of all."""
    steps = sorted(points)
    if len(steps) <= most:
        return {step: points[step] for step in steps}
    every = -(-2 * (len(steps) - 2) // (most - 2)) if most > 3 else len(steps)
    kept = {steps[0], steps[-1]}
    for begin in range(1, len(steps) - 1, every):
        stretch = steps[begin : min(begin + every, len(steps) - 1)]
        kept |= {min(stretch, key=points.__getitem__), max(stretch, key=points.__getitem__)}
    return {step: points[step] for step in sorted(kept)}
