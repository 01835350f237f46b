"""What the ledger holds, as values: an event, a run's row, and which runs are asked for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainyard.ledger.runid import RunId

if TYPE_CHECKING:
    from trainyard.ledger.keys import StartKey

RESULT_DELETED = "result deleted"
"""Kind of the event that a person has deleted a run's result from its bucket."""
REMOVED = "removed"
"""Kind of the event after which a run is not listed any more; its data has the run's token."""


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One thing that happened to a run, at a moment (epoch seconds)."""

    time: float
    run: RunId
    kind: str
    data: dict[str, Any]
    machine: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a run may come to, to be put on the ledger if the limits allow it; money is in dollars."""

    run: RunId
    added: float
    """By so much it may raise what is spent and committed."""
    kind: str | None = None
    """Of the event that tells it; None: there is none."""
    data: Mapping[str, Any] = field(default_factory=dict)
    spent: float | None = None
    """What counts as spent on it from now on; None: nothing new."""
    key: StartKey | None = None
    """The idempotency key that it was asked for with."""
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One attempt as its record was at ``changed``. Times are epoch seconds, money is in dollars."""

    user: str
    label: str
    attempt: int
    token: str
    stack: str
    cloud: str
    recipe: str
    state: str
    over: bool
    machine: str
    """Where it is driven from."""
    created: float
    started: float | None
    """When its pod was rented."""
    ended: float | None
    hours: float
    steps_done: int
    steps_planned: int
    loss: float | None
    learning_rate: float | None
    eta: float | None
    """Seconds of training that were left."""
    estimate: float | None
    """What it was to cost at most."""
    cost: float
    s3_url: str | None
    local_path: str | None
    owed: bool
    """Its result came home and is not in its bucket yet."""
    error: str | None
    git_commit: str | None
    changed: float

    @property
    def id(self) -> RunId:
        """The attempt's name."""
        return RunId(self.user, self.label, self.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are asked for: each part that is not None has to fit."""

    stack: str | None = None
    recipe: str | None = None
    user: str | None = None
    state: str | None = None
    """A state's first word, or ``live`` or ``over``."""
    since: float | None = None
    """Runs that were created from this moment on."""
    limit: int | None = None
    """How many at most, the newest."""


EVERY_RUN = RunFilter()
