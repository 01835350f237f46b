"""What a stack is to the rest of the program, and what an engine's operation leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainyard.config import Places

EngineName = Literal["cli", "builtin"]
Operation = Literal["preview", "up", "refresh", "destroy"]
Event = Mapping[str, object]
"""One engine event: ``step``, ``diagnostic``, ``outputs``, ``remaining`` or ``summary`` (see trainyard.engine)."""
OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """A Pulumi stack: an environment (``local``) or one attempt of a run (``local.alice.label.1``)."""

    name: str
    places: Places
    env: Mapping[str, str]
    settings: Path
    """The settings file the user or runs/ wrote; engines get a copy that carries the salt."""

    @property
    def environment(self) -> str:
        """Name of the environment this stack belongs to."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one operation did."""

    engine: EngineName
    operation: Operation
    exit_code: int
    seconds: float
    changes: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    remaining: tuple[Mapping[str, object], ...] = ()
    stderr_tail: str = ""

    @property
    def ok(self) -> bool:
        """True when the engine said that all of it was done."""
        return self.exit_code == 0

    def reason(self) -> str:
        """Return why it failed, in the engine's and provider's own words."""
        return "\n".join(self.errors) or self.stderr_tail or f"the engine exited {self.exit_code}"
