"""What people had a server do, as rows: each is a verb of the command line at work in a process of its own."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from trainyard.jsontext import parse_json
from trainyard.ledger.database import Database
from trainyard.ledger.tables import operations

OperationState = Literal["running", "done", "failed", "lost"]
"""lost: its process has died without a word; what it had begun is told by the run, the queue or the cloud."""
_KEPT = 90 * 86_400.0
"""Seconds for which what was done is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOperation:
    """One thing that somebody had a server do. Times are epoch seconds."""

    id: str
    account: str
    request: str
    """Of which request: in its log, too."""
    verb: str
    subject: str
    """A run, a stack, a pod: what it was done to."""
    words: tuple[str, ...]
    """The whole command, as one types it behind `trainyard`."""
    state: OperationState = "running"
    created: float
    ended: float | None = None
    exit_code: int | None = None
    output: str | None = None
    """What it printed for programs."""
    said: str | None = None
    """The end of what it said to people."""
    machine: str
    process: str | None = None
    """Its number and what tells it from a later process of that number."""


class OperationRows:
    """Operations of a ledger. Raises Busy, DiskFull or UserError when the ledger cannot be used."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, operation: ServerOperation) -> None:
        """Write down one that begins."""
        values = {**dataclasses.asdict(operation), "words": json.dumps(operation.words)}
        with self.database.writing() as connection:
            connection.execute(sa.delete(operations).where(operations.c.created < operation.created - _KEPT))
            connection.execute(sa.insert(operations).values(values))

    def change(self, operation_id: str, **values: Any) -> bool:
        """Change one that is running; tell whether it was."""
        at = operations.c
        with self.database.writing() as connection:
            asked = sa.update(operations).where(at.id == operation_id, at.state == "running")
            return connection.execute(asked.values(**values)).rowcount == 1

    def get(self, operation_id: str) -> ServerOperation | None:
        """Return one by its id."""
        with self.database.reading() as connection:
            row = connection.execute(sa.select(operations).where(operations.c.id == operation_id)).first()
        return _operation(row) if row else None

    def newest(self, limit: int, *, subject: str | None = None, account: str | None = None, running: bool = False) -> list[ServerOperation]:
        """Return the newest so many, of one subject or account, or those that are running."""
        at = operations.c
        asked = [] if subject is None else [at.subject == subject]
        asked += [] if account is None else [at.account == account]
        asked += [at.state == "running"] if running else []
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(operations).where(*asked).order_by(at.created.desc(), at.id).limit(limit)).all()
        return [_operation(row) for row in rows]


def _operation(row: sa.Row[Any]) -> ServerOperation:
    values = dict(row._mapping)
    return ServerOperation(**{**values, "words": tuple(parse_json(values["words"]))})
