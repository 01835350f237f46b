"""Machines that join a server by a token: a row each, which says what they have and when they last lived."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import sqlalchemy as sa

from trainyard.jsontext import parse_json
from trainyard.ledger.database import Database
from trainyard.ledger.tables import workers

BEAT = 30.0
"""Seconds from one word of a worker to its next."""
LOST = 120.0
"""Seconds without a word after which a worker counts as lost."""
WorkerState = Literal["new", "ready", "draining", "silent", "lost", "away"]
"""new: it never came. silent: its last word is late. lost: it is too late. away: it has said that it leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """One machine. Times are epoch seconds."""

    name: str
    token: str
    """Id of the token that proves it."""
    created: float
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    memory_gb: float | None = None
    version: str | None = None
    host_key: str | None = None
    server: str | None = None
    """The machine whose server it last came to; None: it never came, or has said that it leaves."""
    joined: float | None = None
    beat: float | None = None
    pods: int = 0
    draining: float | None = None

    def state(self, now: float) -> WorkerState:
        """Return how it stands."""
        if self.beat is None:
            return "new"
        if self.server is None:
            return "away"
        if now - self.beat > LOST:
            return "lost"
        if now - self.beat > 1.5 * BEAT:
            return "silent"
        return "ready" if self.draining is None else "draining"


class WorkerRows:
    """Workers of a ledger. Raises Busy, DiskFull or UserError when the ledger cannot be used."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, row: WorkerRow) -> bool:
        """Write a new worker down; False when its name is taken."""
        with self.database.writing() as connection:
            if connection.execute(sa.select(workers.c.name).where(workers.c.name == row.name)).first():
                return False
            connection.execute(sa.insert(workers).values(_stored(asdict(row))))
        return True

    def get(self, name: str) -> WorkerRow | None:
        """Return a worker by its name."""
        with self.database.reading() as connection:
            row = connection.execute(sa.select(workers).where(workers.c.name == name)).first()
        return _row(row) if row else None

    def of_token(self, token_id: str) -> WorkerRow | None:
        """Return the worker that a token proves."""
        with self.database.reading() as connection:
            row = connection.execute(sa.select(workers).where(workers.c.token == token_id)).first()
        return _row(row) if row else None

    def all(self) -> list[WorkerRow]:
        """Return all workers by name."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(workers).order_by(workers.c.name)).all()
        return [_row(row) for row in rows]

    def join(self, row: WorkerRow) -> bool:
        """Write down what a worker says that it is; False for another machine than the one that joined first under this name."""
        said = _stored({key: value for key, value in asdict(row).items() if key not in ("name", "token", "created", "draining")})
        at = workers.c
        same = [at.name == row.name, at.host_key.is_(None) | (at.host_key == row.host_key)]
        with self.database.writing() as connection:
            return connection.execute(sa.update(workers).where(*same).values(said)).rowcount == 1

    def change(self, name: str, **values: Any) -> bool:
        """Change fields of a worker; tell whether it is there."""
        with self.database.writing() as connection:
            return connection.execute(sa.update(workers).where(workers.c.name == name).values(_stored(values))).rowcount == 1

    def remove(self, name: str) -> None:
        """Forget a worker."""
        with self.database.writing() as connection:
            connection.execute(sa.delete(workers).where(workers.c.name == name))


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: json.dumps(value) if key in ("labels", "gpus") else value for key, value in values.items()}


def _row(row: sa.Row[Any]) -> WorkerRow:
    said = WorkerRow(**row._mapping)
    return replace(said, labels=parse_json(str(said.labels)), gpus=tuple(parse_json(str(said.gpus))))
