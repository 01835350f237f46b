"""Who of all servers of a ledger does what by schedule: a row a duty, taken by one conditional statement, so that one does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from trainyard.ledger.database import Database, insert_into
from trainyard.ledger.tables import duties

DutyOutcome = Literal["done", "failed", "died", "ended"]
"""died: its process is gone without a word; ended: with its server, and the next one goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DutyRow:
    """How a duty stands. Times are epoch seconds."""

    name: str
    holder: str | None = None
    """The process that does it now: its machine, its number, and what tells it from a later one."""
    until: float = 0.0
    """When the holder counts as dead if nobody has said meanwhile that it lives."""
    begun: float | None = None
    ended: float | None = None
    outcome: DutyOutcome | None = None
    said: str | None = None
    """The end of what it said last."""


class DutyRows:
    """Duties of a ledger. Raises Busy, DiskFull or UserError when the ledger cannot be used."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def all(self) -> dict[str, DutyRow]:
        """Return all that were ever done, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(duties).order_by(duties.c.name)).all()
        return {row.name: DutyRow(**row._mapping) for row in rows}

    def take(self, seen: DutyRow, holder: str, now: float, until: float) -> bool:
        """Take a duty that still stands as it was seen; of two servers that do, one is told so."""
        with self.database.writing() as connection:
            new = {"name": seen.name, "holder": None, "until": 0.0}
            connection.execute(insert_into(duties, connection.dialect.name).values(new).on_conflict_do_nothing(index_elements=["name"]))
            asked = sa.update(duties).where(*_as_seen(seen))
            return connection.execute(asked.values(holder=holder, until=until, begun=now, ended=None, outcome=None)).rowcount == 1

    def hand(self, name: str, before: str, holder: str) -> bool:
        """Let the process that was started for a duty be its holder instead of who has taken it."""
        with self.database.writing() as connection:
            asked = sa.update(duties).where(duties.c.name == name, duties.c.holder == before)
            return connection.execute(asked.values(holder=holder)).rowcount == 1

    def beat(self, name: str, holder: str, until: float) -> None:
        """Say that the holder of a duty lives."""
        with self.database.writing() as connection:
            connection.execute(sa.update(duties).where(duties.c.name == name, duties.c.holder == holder).values(until=until))

    def end(self, seen: DutyRow, now: float, outcome: DutyOutcome, said: str) -> bool:
        """Write down how a duty went whose holder is still the one that was seen; tell whether it was."""
        with self.database.writing() as connection:
            asked = sa.update(duties).where(*_as_seen(seen))
            return connection.execute(asked.values(holder=None, until=0.0, ended=now, outcome=outcome, said=said)).rowcount == 1


def _as_seen(seen: DutyRow) -> list[sa.ColumnElement[bool]]:
    at = duties.c
    return [at.name == seen.name, at.holder.is_not_distinct_from(seen.holder), at.begun.is_not_distinct_from(seen.begun)]
