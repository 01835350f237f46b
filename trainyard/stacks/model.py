"""What a stack is to the rest of the program, and what an engine's operation leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainyard.config import Places
from trainyard.errors import KINDS, StillThere, TrainyardError
from trainyard.problems import Problem

EngineName = Literal["cli", "builtin"]
Operation = Literal["preview", "up", "refresh", "destroy"]
Event = Mapping[str, object]
"""One engine event: ``step``, ``diagnostic``, ``outputs`` or ``summary`` (see trainyard.engine)."""
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
class OperationOutcome:
    """What one operation did."""

    engine: EngineName
    operation: Operation
    exit_code: int
    seconds: float
    changes: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    stderr_tail: str = ""
    problems: tuple[Problem, ...] = ()
    """What failed, as data: written down by provider, program and engine, in this order."""

    @property
    def ok(self) -> bool:
        """True when the engine said that all of it was done."""
        return self.exit_code == 0

    def reason(self) -> str:
        """Return why it failed, in the engine's and provider's own words."""
        return "\n".join(dict.fromkeys(self.errors)) or self.stderr_tail or f"the engine exited {self.exit_code}"

    @property
    def problem(self) -> Problem:
        """What decides about the exit code: what may still cost money, else what failed first."""
        costly = [item for item in self.problems if issubclass(KINDS.get(item.kind, TrainyardError), StillThere)]
        return next(iter([*costly, *self.problems]), Problem("engine", self.reason()))

    def error(self, before: str = "", *after: str) -> TrainyardError:
        """Return the failure as an error of its kind, in the engine's and provider's own words."""
        return self.problem.error("\n".join([before + self.reason(), *after]))
