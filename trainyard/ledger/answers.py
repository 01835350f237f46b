"""What a server has answered to requests with an Idempotency-Key: one of two that come at once is answered, the other waits or is told so.

As draft-ietf-httpapi-idempotency-key-header has it: the same key with another request is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from trainyard.ledger.database import Database, insert_into
from trainyard.ledger.tables import answers

LIFE = 86_400.0
"""Seconds for which a key gives the same answer."""
_AT_WORK = 60.0
"""Seconds after which a request without an answer has died with its server."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What a key stands for; without a status it is being answered."""

    hash: str
    status: int | None
    body: str | None


class AnswerRows:
    """Answers of a ledger. Raises Busy, DiskFull or UserError when the ledger cannot be used."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def take(self, account: str, key: str, digest: str, now: float) -> KeptAnswer | None:
        """Take a key for a request (its sha256) that is now answered; return what the key stands for already instead, if it does."""
        at = answers.c
        with self.database.reserving() as connection:
            gone = (at.time < now - LIFE) | (at.status.is_(None) & (at.time < now - _AT_WORK))
            connection.execute(sa.delete(answers).where(gone))
            row = connection.execute(sa.select(answers).where(at.account == account, at.key == key)).first()
            if row is not None:
                return KeptAnswer(row.hash, row.status, row.body)
            values = {"account": account, "key": key, "time": now, "hash": digest, "status": None, "body": None}
            connection.execute(insert_into(answers, connection.dialect.name).values(values))
        return None

    def keep(self, account: str, key: str, status: int, body: str) -> None:
        """Keep the answer for whoever asks again."""
        at = answers.c
        with self.database.writing() as connection:
            connection.execute(sa.update(answers).where(at.account == account, at.key == key).values(status=status, body=body))

    def drop(self, account: str, key: str) -> None:
        """Free a key whose request was refused: it has done nothing."""
        at = answers.c
        with self.database.writing() as connection:
            connection.execute(sa.delete(answers).where(at.account == account, at.key == key, at.status.is_(None)))
