"""What failed in a provider or in the program, as data beside the engine.

An engine hands on nothing of an error but its text. So whoever starts one names a file (``VARIABLE``), a provider
and the program write what failed into it, a line of JSON each, and under either engine the starter reads kinds.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import KINDS, EngineError, TrainyardError, kind_of
from trainyard.jsontext import parse_json

VARIABLE = "TRAINYARD_PROBLEMS"


@dataclass(frozen=True, slots=True)
class Problem:
    """One failure: a name of ``errors.KINDS``, what a person reads, and the facts that a decision needs."""

    kind: str
    message: str
    urn: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)

    def error(self, message: str = "") -> TrainyardError:
        """Return it as the error it was, with another text where one is given."""
        return KINDS.get(self.kind, EngineError)(message or self.message, facts=self.facts)


def note(error: TrainyardError, urn: str = "") -> None:
    """Write down an error for whoever started the engine; nothing where nobody asked, or where the file is gone."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = json.dumps({"kind": kind_of(error), "message": str(error), "urn": urn, "facts": error.facts}, default=str) + "\n"
    # Not made here: an engine that outlives its starter must leave no file behind.
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def read(path: Path) -> tuple[Problem, ...]:
    """Return what was written down; a line that a full disk cut short is left out."""
    problems = []
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                data = parse_json(line)
                problems.append(Problem(str(data["kind"]), str(data["message"]), str(data["urn"]), dict(data["facts"])))
    return tuple(problems)
