"""What a person is told who is not at the terminal."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Literal

NoticeKind = Literal["start", "end", "failure", "budget", "limit", "leak", "approval", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notice. ``time`` is epoch seconds, money in ``data`` is in dollars; no secret is in it."""

    kind: NoticeKind
    title: str
    text: str
    stack: str
    run: str | None = None
    data: dict[str, str | float | bool | None] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: float = field(default_factory=time.time)
