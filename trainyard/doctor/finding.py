"""What doctor finds about one thing, and what looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from trainyard.config import Places

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``remedy`` says what to do when it is not ok."""

    name: str
    status: Status
    text: str
    remedy: str | None = None


Checker = Callable[[Places, Mapping[str, str]], Iterable[Finding]]
