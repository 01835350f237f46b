"""Why a pod may be ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

By = Literal["training", "cloud", "lease", "person", "start"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ends a run: from "started" on nothing but such a value ends its pod, and no exception is one.

    ``by`` says whose word it is; ``start``: the training never began, so nothing of value is on the pod. Without
    ``error`` it went well; ``code`` is the exit code of the run.
    """

    by: By
    error: str | None = None
    code: int = 0
    lost: bool = False
    """The cloud has taken the pod: neither its lease nor a person has ended it."""
