"""What only a cloud or a bucket can tell: a page shows the newest that is known and as of when, and never waits for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.web.reports import VerbReports

_STALE = 600.0
"""Seconds after which a page that is looked at has it read anew."""


@dataclass(frozen=True, slots=True)
class CloudReading:
    """The newest that was read: ``value`` is None until there is any."""

    title: str
    value: Any
    at: float | None
    running: bool
    wrong: str | None


def reading(reports: VerbReports, title: str, words: Sequence[str], *, anew: bool = False) -> CloudReading:
    """Return what a verb has told last, and have it read anew where that is old, or ``anew`` is said."""
    known = reports.soon(words, 0.0 if anew else _STALE)
    report = known.report
    wrong = None if known.running else known.problem
    return CloudReading(title, report.value if report else None, report.as_of if report else None, known.running, wrong)
