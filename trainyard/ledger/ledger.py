"""The ledger: every run, attempt, cost and event, in one database that any process may write to."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from trainyard.config import Places, secret
from trainyard.jsontext import parse_json
from trainyard.ledger import tables
from trainyard.ledger.database import Database, insert_into
from trainyard.ledger.keys import take_key
from trainyard.ledger.limits import LimitRest, SpendLimit
from trainyard.ledger.quotas import dollar_quotas
from trainyard.ledger.rows import EVERY_RUN, REMOVED, LedgerEvent, Reservation, RunFilter, RunRow
from trainyard.ledger.runid import RunId
from trainyard.ledger.sums import RESERVING, reserved, rests
from trainyard.secret import Secret

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

PLACE = "TRAINYARD_LEDGER"
"""Variable with the URL of a Postgres that is the ledger instead of the file."""
_TOGETHER = 500
"""Keys that are asked for in one statement."""
_MANY = 4_000
"""Keys from which on all rows of a machine are read faster than those of the keys: of 10,000 in 12 ms instead of 127."""


class Ledger:
    """Append events and costs, put rows of runs; read them back. Raises Busy, DiskFull or UserError when it cannot be used."""

    def __init__(self, place: Path | Secret, patience: float | None = None) -> None:
        self.database = Database(place, patience)

    def add(self, run: RunId, kind: str, **data: Any) -> None:
        """Record that something happened to a run, now and on this machine."""
        self.take([LedgerEvent(time.time(), run, kind, data, socket.gethostname())], mirrored=False)

    def take(self, events: Iterable[LedgerEvent], *, mirrored: bool) -> None:
        """Record events, each once however often it comes; ``mirrored``: they lie in a bucket already."""
        events = list(events)
        if events:
            with self.database.writing() as connection:
                self._take(connection, events, mirrored=mirrored)

    def reserve(self, reservation: Reservation, limits: Sequence[SpendLimit]) -> list[LimitRest]:
        """Record what a run may add to what is spent, unless limits that block or quotas leave less; return those, with nothing recorded.

        Sums and record are one transaction, so of two processes the second sees what the first has reserved. Raises KeyTaken where
        the run's key stands for another run by now.
        """
        run, now = reservation.run, time.time()
        with self.database.reserving() as connection:
            blocking = [*(limit for limit in limits if limit.blocks), *dollar_quotas(connection, run.user)]
            passed = [rest for rest in rests(connection, blocking, now, run) if rest.is_passed_by(reservation.added)]
            if not passed:
                if reservation.key is not None:
                    take_key(connection, reservation.key, run, reservation.token)
                events = [LedgerEvent(now, run, reservation.kind, dict(reservation.data), socket.gethostname())] if reservation.kind else []
                self._take(connection, events, mirrored=False)
                if reservation.spent is not None:
                    connection.execute(self._upsert(tables.costs), {**_key(run), "started": now, "dollars": reservation.spent})
        return passed

    def tell_share(self, run: RunId, kind: str, share: int, *, since: float = 0.0, limit: str = "", same: Sequence[str] = ()) -> bool:
        """Record that a share (percent) of a limit was told, unless one as large was since a moment; tell whether it is for the first time.

        ``same``: which parts of the run's name an earlier one must share. Of all who ask at once, one is the first.
        """
        at, now = tables.events.c, time.time()
        asked = [at.kind == kind, at.time >= since, *(at[name] == value for name, value in _key(run).items() if name in same)]
        with self.database.reserving() as connection:
            earlier = [parse_json(row.data) for row in connection.execute(sa.select(at.data).where(*asked))]
            if any(one.get("limit", "") == limit and float(one.get("share") or 0) >= share for one in earlier):
                return False
            data = {"share": share, **({"limit": limit} if limit else {})}
            self._take(connection, [LedgerEvent(now, run, kind, data, socket.gethostname())], mirrored=False)
        return True

    def end(self, run: RunId, started: float, dollars: float | None, **data: Any) -> bool:
        """Record what an attempt has cost (None: it was none) and that what it had reserved is free, in one transaction.

        Tells whether that is news. A clock that was set back meanwhile leaves nothing reserved.
        """
        at = tables.events.c
        asked = sa.select(at.kind, at.time).where(*_of(tables.events, run), at.kind.in_((*RESERVING, "ended")))
        with self.database.writing() as connection:
            if dollars is not None:
                connection.execute(self._upsert(tables.costs), {**_key(run), "started": started, "dollars": dollars})
            newest = connection.execute(asked.order_by(at.time.desc(), at.number.desc()).limit(1)).first()
            if newest is not None and newest.kind == "ended":
                return False
            moment = max(time.time(), newest.time + 0.001 if newest else 0.0)
            self._take(connection, [LedgerEvent(moment, run, "ended", data, socket.gethostname())], mirrored=False)
        return True

    def reserved(self) -> Mapping[RunId, str]:
        """Return the attempts that have reserved dollars and have no recorded end, with their tokens ("" of older versions)."""
        with self.database.reading() as connection:
            return reserved(connection, time.time())

    def left_of(self, limits: Sequence[SpendLimit], run: RunId | None = None) -> list[LimitRest]:
        """Return what is left of limits now, those of one run for ``run``; none of them, and the ledger is not opened."""
        if not limits:
            return []
        with self.database.reading() as connection:
            return rests(connection, limits, time.time(), run)

    def events(
        self, run: RunId | None = None, *, kind: str | None = None, since: float | None = None, newest: int | None = None
    ) -> list[LedgerEvent]:
        """Return events in order: of one attempt, of one kind, since a moment (epoch seconds), the ``newest`` so many, or all."""
        asked = [] if run is None else _of(tables.events, run)
        asked += [] if kind is None else [tables.events.c.kind == kind]
        asked += [] if since is None else [tables.events.c.time >= since]
        return self._events(*asked, newest=newest)

    def numbered(self, after: int, run: RunId | None = None, most: int = 500) -> list[tuple[int, LedgerEvent]]:
        """Return what was recorded after an event with a number, of all runs or of one, in that order, with numbers: at most so many."""
        columns = tables.events.c
        query = sa.select(tables.events).where(columns.number > after, *([] if run is None else _of(tables.events, run)))
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(columns.number).limit(most)).all()
        return [(row.number, _event(row)) for row in rows]

    def newest_number(self, run: RunId | None = None) -> int:
        """Return the number of the event that was recorded last, of all runs or of one; 0 without any."""
        query = sa.select(sa.func.max(tables.events.c.number)).where(*([] if run is None else _of(tables.events, run)))
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar() or 0)

    def set_cost(self, run: RunId, started: float, dollars: float) -> None:
        """Record what an attempt has cost so far."""
        with self.database.writing() as connection:
            connection.execute(self._upsert(tables.costs), {**_key(run), "started": started, "dollars": dollars})

    def costs_since(self, moment: float) -> Mapping[RunId, float]:
        """Return what each attempt that started since a moment (epoch seconds) has cost: dollars."""
        costs = tables.costs.c
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(tables.costs).where(costs.started >= moment)).all()
        return {RunId(row.user, row.label, row.attempt): row.dollars for row in rows}

    def put_run(self, row: RunRow) -> None:
        """Write what is known of an attempt, unless something newer is known of it."""
        self.put_runs([row])

    def put_runs(self, rows: Collection[RunRow]) -> None:
        """Write many in one transaction."""
        if rows:
            with self.database.writing() as connection:
                put = self._upsert(tables.runs, newer=tables.runs.c.changed)
                connection.execute(put, [{item.name: getattr(row, item.name) for item in dataclasses.fields(row)} for row in rows])

    def runs(self, asked: RunFilter = EVERY_RUN) -> list[RunRow]:
        """Return the rows of the runs that are asked for, oldest first."""
        runs = tables.runs.c
        order = (runs.created, runs.user, runs.label, runs.attempt, runs.token)
        query = sa.select(tables.runs).where(*_conditions(asked)).order_by(*(column.desc() for column in order)).limit(asked.limit)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [RunRow(**row._mapping) for row in reversed(rows)]

    def count(self, asked: RunFilter = EVERY_RUN) -> int:
        """Return how many runs are asked for, whatever the limit."""
        with self.database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(tables.runs).where(*_conditions(asked))).scalar() or 0)

    def unbilled(self, kind: str, since: float, most: int) -> list[RunId]:
        """Return the newest rented attempts over since a moment of whose bill no event of a kind says that it is ``whole``."""
        runs, at = tables.runs.c, tables.events.c
        same_run = [at[name] == runs[name] for name in ("user", "label", "attempt")]
        whole = sa.exists().where(*same_run, at.kind == kind, at.data.contains('"whole": true'))
        over = (runs.over, runs.created >= since, runs.cloud.not_in(("local", "")), runs.cost > 0.0, ~whole)
        query = sa.select(runs.user, runs.label, runs.attempt).where(*over).order_by(runs.created.desc()).limit(most)
        with self.database.reading() as connection:
            return [RunId(row.user, row.label, row.attempt) for row in connection.execute(query)]

    def changes(self, asked: Sequence[RunId], machine: str) -> Mapping[RunId, float]:
        """Return when what is known of attempts that a machine drives was true (epoch seconds); of others nothing."""
        runs = tables.runs.c
        key = sa.tuple_(runs.user, runs.label, runs.attempt)
        query: sa.Select[Any] = sa.select(runs.user, runs.label, runs.attempt, runs.changed).where(runs.machine == machine)
        if len(asked) < _MANY:
            rows: Sequence[sa.Row[Any]] = self._each_of(query, key, _keys(asked))
        else:
            with self.database.reading() as connection:
                rows = connection.execute(query).all()
        return {RunId(row.user, row.label, row.attempt): row.changed for row in rows}

    def newest_attempts(self, names: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
        """Return the number of the newest attempt of runs that are named by user and label."""
        runs = tables.runs.c
        query = sa.select(runs.user, runs.label, sa.func.max(runs.attempt).label("newest")).group_by(runs.user, runs.label)
        rows = self._each_of(query, sa.tuple_(runs.user, runs.label), list(names))
        return {(row.user, row.label): row.newest for row in rows}

    def rows_of(self, asked: Sequence[RunId]) -> list[RunRow]:
        """Return the rows of attempts by their names."""
        runs = tables.runs.c
        rows = self._each_of(sa.select(tables.runs), sa.tuple_(runs.user, runs.label, runs.attempt), _keys(asked))
        return [RunRow(**row._mapping) for row in rows]

    def events_of(self, asked: Sequence[RunId]) -> list[LedgerEvent]:
        """Return the events of many attempts."""
        columns = tables.events.c
        rows = self._each_of(sa.select(tables.events), sa.tuple_(columns.user, columns.label, columns.attempt), _keys(asked))
        return [_event(row) for row in rows]

    def runs_with(self, kind: str, asked: Sequence[RunId]) -> set[RunId]:
        """Return which of these attempts an event of a kind is known of."""
        columns = tables.events.c
        key = columns.user, columns.label, columns.attempt
        rows = self._each_of(sa.select(*key).where(columns.kind == kind), sa.tuple_(*key), _keys(asked))
        return {RunId(row.user, row.label, row.attempt) for row in rows}

    def pending(self, machine: str, since: float) -> list[LedgerEvent]:
        """Return the events of a machine since a moment that no bucket is known to have."""
        columns = tables.events.c
        return self._events(~columns.mirrored, columns.machine == machine, columns.time >= since)

    def set_mirrored(self, ids: Sequence[str]) -> None:
        """Record that events lie in their run's bucket, or that it has none."""
        with self.database.writing() as connection:
            for begin in range(0, len(ids), _TOGETHER):
                at = tables.events.c.id.in_(ids[begin : begin + _TOGETHER])
                connection.execute(sa.update(tables.events).where(at).values(mirrored=True))

    def fold(self, events: Sequence[LedgerEvent], rows: Collection[RunRow]) -> None:
        """Take in what another machine tells: its events, its runs and what they cost; nothing older wins, what was removed stays so."""
        if not events:
            return
        known_events = [*self.events_of([row.id for row in rows]), *events]
        gone = {(event.run, event.data.get("token")) for event in known_events if event.kind == REMOVED}
        self.put_runs([row for row in rows if (row.id, row.token) not in gone])
        for event in events:
            if event.kind == REMOVED:
                self.remove_run(event.run, str(event.data.get("token", "")))
        known = {row.id: row.changed for row in self.rows_of([row.id for row in rows])}
        costs = [
            {**_key(row.id), "started": row.created, "dollars": row.cost} for row in rows if row.changed >= known.get(row.id, row.changed)
        ]
        if costs:
            with self.database.writing() as connection:
                connection.execute(self._upsert(tables.costs), costs)
        self.take(events, mirrored=True)  # last: an event that is known is not read again, so what came with it has to be in by then

    def remove_run(self, run: RunId, token: str) -> None:
        """Forget the row of an attempt; what it has cost and its events stay."""
        with self.database.writing() as connection:
            connection.execute(sa.delete(tables.runs).where(*_of(tables.runs, run), tables.runs.c.token == token))

    def _take(self, connection: sa.Connection, events: Sequence[LedgerEvent], *, mirrored: bool) -> None:
        values = [
            {"id": event.id, "time": event.time, **_key(event.run), "kind": event.kind, "data": json.dumps(event.data, default=str),
             "machine": event.machine, "mirrored": mirrored}
            for event in events
        ]  # fmt: skip
        if values:
            connection.execute(self._insert(tables.events).on_conflict_do_nothing(index_elements=["id"]), values)

    def _events(self, *asked: sa.ColumnElement[bool], newest: int | None = None) -> list[LedgerEvent]:
        columns = tables.events.c
        query = sa.select(tables.events).where(*asked).order_by(columns.time.desc(), columns.number.desc()).limit(newest)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [_event(row) for row in reversed(rows)]

    def _each_of(self, query: sa.Select[Any], key: sa.Tuple, keys: Sequence[tuple[Any, ...]]) -> list[sa.Row[Any]]:
        """Return the rows of a query whose key is one of many, asked in pieces."""
        with self.database.reading() as connection:
            pieces = (keys[begin : begin + _TOGETHER] for begin in range(0, len(keys), _TOGETHER))
            return [row for piece in pieces for row in connection.execute(query.where(key.in_(piece)))]

    def _insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        return insert_into(table, "postgresql" if self.database.is_postgres else "sqlite")

    def _upsert(self, table: sa.Table, newer: sa.Column[float] | None = None) -> sqlite.Insert | postgresql.Insert:
        """Return the statement that writes a row over one with its key; with ``newer`` only when that column is not smaller."""
        insert = self._insert(table)
        keys = [column.name for column in table.primary_key]
        values: dict[str, Any] = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
        if "estimate" in values:  # said once, before anything is rented
            values["estimate"] = sa.func.coalesce(values["estimate"], table.c.estimate)
        condition = None if newer is None else insert.excluded[newer.name] >= newer
        return insert.on_conflict_do_update(index_elements=keys, set_=values, where=condition)


def open_ledger(env: Mapping[str, str], places: Places, patience: float | None = None) -> Ledger:
    """Return the ledger of a checkout: the Postgres that TRAINYARD_LEDGER names, else the file. Raises UserError for another URL."""
    return Ledger(secret(env, PLACE) or places.ledger, patience)


def _key(run: RunId) -> dict[str, str | int]:
    return {"user": run.user, "label": run.label, "attempt": run.attempt}


def _keys(runs: Sequence[RunId]) -> list[tuple[str, str, int]]:
    return [(run.user, run.label, run.attempt) for run in runs]


def _event(row: sa.Row[Any]) -> LedgerEvent:
    return LedgerEvent(row.time, RunId(row.user, row.label, row.attempt), row.kind, parse_json(row.data), row.machine, row.id)


def _of(table: sa.Table, run: RunId) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in _key(run).items()]


def _conditions(asked: RunFilter) -> list[sa.ColumnElement[bool]]:
    runs = tables.runs.c
    conditions = [runs[name] == value for name in ("stack", "recipe", "user") if (value := getattr(asked, name)) is not None]
    conditions += [] if asked.since is None else [runs.created >= asked.since]
    if asked.state in ("live", "over"):
        conditions.append(runs.over == (asked.state == "over"))
    elif asked.state is not None:
        conditions.append(sa.or_(runs.state == asked.state, runs.state.startswith(f"{asked.state},")))
    return conditions
