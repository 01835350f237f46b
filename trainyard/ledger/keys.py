"""Idempotency keys: the run that a key stands for, taken in the transaction that puts the run on the ledger. One key, one run."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from trainyard.errors import RefusedError
from trainyard.jsontext import parse_json
from trainyard.ledger import tables
from trainyard.ledger.database import Database, insert_into
from trainyard.ledger.runid import RunId

LIFE = 86_400.0
"""Seconds for which a key gives the same run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartKey:
    """A key as somebody says it: for which request, whose parts are only known by their digests."""

    key: str
    verb: str
    user: str
    request: Mapping[str, str]
    replaces: str | None = None
    """Token of a run that the key stood for and that came to nothing."""

    @property
    def digest(self) -> str:
        """The sha256 of verb and request."""
        return hashlib.sha256(json.dumps([self.verb, self.request], sort_keys=True).encode()).hexdigest()

    def differs_from(self, row: KeyRow) -> list[str]:
        """Return the names of what is asked otherwise than when the key was first said."""
        if row.hash == self.digest:
            return []
        if row.verb != self.verb:
            return [f"the command ({row.verb}, now {self.verb})"]
        return sorted(name for name in {*self.request, *row.request} if self.request.get(name) != row.request.get(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """What the ledger has of a key; ``time`` is when it was first said (epoch seconds)."""

    key: str
    time: float
    user: str
    machine: str
    verb: str
    request: Mapping[str, str]
    hash: str
    run: RunId
    token: str | None


class KeyTaken(RefusedError):
    """Another run got the key first."""


def key_row(database: Database, key: str) -> KeyRow | None:
    """Return what a key stands for, None for one that is new or older than LIFE."""
    with database.reading() as connection:
        row = _row(connection, key)
    return row if row is not None and time.time() - row.time < LIFE else None


def take_key(connection: sa.Connection, start: StartKey, run: RunId, token: str | None) -> None:
    """Let a key stand for a run, within a transaction of reserving(); raises KeyTaken where it stands for another one."""
    now, row = time.time(), _row(connection, start.key)
    mine = row is None or (row.run, row.token) == (run, token) or (start.replaces is not None and row.token == start.replaces)
    if row is not None and not mine and now - row.time < LIFE:
        raise KeyTaken(f"key '{start.key}' stands for run {row.run} by now; nothing was rented")
    values = {
        "key": start.key, "time": now, "user": start.user, "machine": socket.gethostname(), "verb": start.verb,
        "request": json.dumps(dict(start.request), sort_keys=True), "hash": start.digest,
        "run_user": run.user, "label": run.label, "attempt": run.attempt, "token": token,
    }  # fmt: skip
    insert = insert_into(tables.keys, connection.dialect.name).values(values)
    connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_=values))


def holds_key(database: Database, key: str, token: str) -> bool:
    """Tell whether no other run has got a key since: before a pod is rented for one that was left lying."""
    with database.reading() as connection:
        row = _row(connection, key)
    return row is None or row.token == token


def _row(connection: sa.Connection, key: str) -> KeyRow | None:
    at = connection.execute(sa.select(tables.keys).where(tables.keys.c.key == key)).first()
    if at is None:
        return None
    return KeyRow(
        key=at.key, time=at.time, user=at.user, machine=at.machine, verb=at.verb, request=parse_json(at.request), hash=at.hash,
        run=RunId(at.run_user, at.label, at.attempt or 1), token=at.token,
    )  # fmt: skip
