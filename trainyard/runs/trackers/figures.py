"""Lines of ``metrics.jsonl`` as points of curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trainyard.jsontext import parse_json

_NO_CURVE = ("step", "time", "total_steps")
"""Numbers that say where a point is."""


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of one step. ``time`` is epoch seconds, None where the line does not tell."""

    step: int
    time: float | None
    figures: Mapping[str, float]


def point_of(line: bytes) -> Point | None:
    """Return what a line holds; None for one without a step or without any finite figure."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    numbers = {str(name): float(value) for name, value in row.items() if _is_finite(value)}
    figures = {name: value for name, value in numbers.items() if name not in _NO_CURVE}
    if "step" not in numbers or not figures:
        return None
    return Point(int(numbers["step"]), numbers.get("time"), figures)


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
