"""The ledger: every run, attempt, cost and event, in one SQLite file that any process may write to."""

from __future__ import annotations

import contextlib
import json
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.clouds.marker import LONGEST_LEASE
from trainyard.errors import Busy, TrainyardError, UserError, no_space
from trainyard.jsontext import parse_json
from trainyard.runs.records.identity import RunId

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, user TEXT NOT NULL, label TEXT NOT NULL, attempt INTEGER NOT NULL,
  kind TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_run ON events (user, label, attempt, time);
CREATE TABLE IF NOT EXISTS costs (
  user TEXT NOT NULL, label TEXT NOT NULL, attempt INTEGER NOT NULL, started REAL NOT NULL, dollars REAL NOT NULL,
  PRIMARY KEY (user, label, attempt));
"""


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One thing that happened to a run."""

    time: float
    run: RunId
    kind: str
    data: dict[str, Any]


class Ledger:
    """Append events and costs; read them back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, run: RunId, kind: str, **data: Any) -> None:
        """Record that something happened to a run, now."""
        with self._open() as db:
            db.execute(
                "INSERT INTO events (time, user, label, attempt, kind, data) VALUES (?, ?, ?, ?, ?, ?)",
                (time.time(), run.user, run.label, run.attempt, kind, json.dumps(data, default=str)),
            )

    def events(self, run: RunId | None = None, *, kind: str | None = None, since: float | None = None) -> list[LedgerEvent]:
        """Return events in order: of one attempt, of one kind, since a moment (epoch seconds), or all."""
        asked: dict[str, object] = {} if run is None else {"user = ?": run.user, "label = ?": run.label, "attempt = ?": run.attempt}
        asked |= {} if kind is None else {"kind = ?": kind}
        asked |= {} if since is None else {"time >= ?": since}
        where = f"WHERE {' AND '.join(asked)}" if asked else ""
        with self._open() as db:
            query = f"SELECT time, user, label, attempt, kind, data FROM events {where} ORDER BY id"
            rows = db.execute(query, tuple(asked.values())).fetchall()
        return [LedgerEvent(row[0], RunId(row[1], row[2], row[3]), row[4], parse_json(row[5])) for row in rows]

    def set_cost(self, run: RunId, started: float, dollars: float) -> None:
        """Record what an attempt has cost so far."""
        with self._open() as db:
            db.execute("INSERT OR REPLACE INTO costs VALUES (?, ?, ?, ?, ?)", (run.user, run.label, run.attempt, started, dollars))

    def spent_since(self, moment: float) -> float:
        """Return the dollars of all attempts that started since a moment (epoch seconds)."""
        with self._open() as db:
            return float(db.execute("SELECT COALESCE(SUM(dollars), 0) FROM costs WHERE started >= ?", (moment,)).fetchone()[0])

    def committed(self, now: float) -> float:
        """Return the dollars that runs without a recorded end may still come to: the whole estimate of each.

        A run that is killed and never looked at again counts so until no lease can hold it any more.
        """
        since = now - LONGEST_LEASE.total_seconds()
        begun: dict[RunId, float] = {}
        for event in self.events(since=since):
            if event.kind in ("prepared", "adopted", "extended"):
                begun[event.run] = float(event.data.get("estimate") or 0.0)
            elif event.kind == "ended":
                begun.pop(event.run, None)
        return sum(begun.values())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            try:
                db = opened.enter_context(contextlib.closing(sqlite3.connect(self.path, timeout=30)))
                db.executescript(_SCHEMA)
                with db:
                    yield db
            except sqlite3.Error as error:
                raise self._problem(error) from None

    def _problem(self, error: sqlite3.Error) -> TrainyardError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest tells only finer shades
        if code == sqlite3.SQLITE_FULL:
            return no_space(self.path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Busy(f"{self.path}: another process holds the ledger: {error}")
        aside = shlex.join(["mv", str(self.path), f"{self.path}.damaged"])
        damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        hint = f"Move it away and a new one is begun, from which spending limits then count: {aside}" if damaged else None
        return UserError(f"{self.path}: the ledger cannot be used: {error}", hint=hint)
