"""How the ledger's database is opened: SQLite in WAL mode or Postgres, its schema brought to the newest, its errors as ours."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from trainyard.errors import Busy, TrainyardError, UserError, no_space
from trainyard.ledger.server import bound, server_of
from trainyard.ledger.tables import NEWEST, events, metadata
from trainyard.secret import Secret

# A Ctrl-C while a connection is closed is raised, and needs no traceback on the screen beside that.
logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

PATIENCE = 30.0
"""Seconds in which another process's write is waited for, where nothing is paid meanwhile."""
_SCHEMA_LOCK = 0x7261696E
"""Key of the advisory lock under which one process at a time looks after Postgres's schema."""
_MONEY_LOCK = 0x7261696F
"""Key of the advisory lock under which one process at a time looks at Postgres's sums and adds to them."""
_CHAIN_LOCK = 0x72616970
"""Key of the advisory lock under which one process at a time appends to the audit log in Postgres."""
_DRIVER = "psycopg"
_WRITES = "trainyard_writes"
_REVISION = sa.table("alembic_version", sa.column("version_num"))


class Database:
    """One ledger's database: a file's path, or the URL of a Postgres. Nothing is opened before it is used."""

    def __init__(self, place: Path | Secret, patience: float | None = None) -> None:
        self._patience = PATIENCE if patience is None else patience
        self.path = place if isinstance(place, Path) else None
        self._url = sa.URL.create("sqlite", database=str(place)) if isinstance(place, Path) else _postgres_url(place)
        self._engine: sa.Engine | None = None

    @property
    def name(self) -> str:
        """What a message calls it: the file's path, or the address without its password."""
        return str(self.path) if self.path else f"postgresql://{self._url.host or ''}/{self._url.database or ''}"

    @property
    def is_postgres(self) -> bool:
        """Tell whether it is a server's."""
        return self.path is None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open it for a look; raises Busy, DiskFull or UserError when that cannot be."""
        with self._transaction(writes=False) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open it for one transaction that is kept as a whole or not at all; on SQLite no other one writes meanwhile."""
        with self._transaction(writes=True) as connection:
            yield connection

    @contextlib.contextmanager
    def reserving(self) -> Iterator[sa.Connection]:
        """Like writing(); between its reads and its writes no other process reserves, on Postgres neither."""
        with self._transaction(writes=True) as connection:
            if self.is_postgres:
                bound(connection, PATIENCE)
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE:.0f}s'")
            self._lock(connection, _MONEY_LOCK)
            yield connection

    @contextlib.contextmanager
    def chaining(self) -> Iterator[sa.Connection]:
        """Like writing(); no other process appends to the audit log meanwhile, on Postgres neither."""
        with self._transaction(writes=True) as connection:
            self._lock(connection, _CHAIN_LOCK)
            yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Open it for a long look at what it holds at one moment, whatever is written meanwhile."""
        with self._transaction(writes=False) as connection:
            if self.is_postgres:  # SQLite shows nothing else anyway
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection

    def has_table(self, name: str) -> bool:
        """Tell whether it has a table, before anything is done to its schema."""
        try:
            with self._opened().connect() as connection:
                return connection.dialect.has_table(connection, name)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._problem(error) from None

    @contextlib.contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[sa.Connection]:
        if self.is_postgres and server_of(self._url).is_silent():
            raise UserError(f"{self.name}: the ledger cannot be used: its server has not answered a moment ago")
        try:
            if self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened().connect() as connection:
                self._bring_to_newest(connection)
                with connection.execution_options(**{_WRITES: writes}).begin():
                    self._wait_for_others(connection)
                    yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._problem(error) from None

    def _wait_for_others(self, connection: sa.Connection) -> None:
        """Bound for this transaction how long a lock is waited for: SQLite knows it by connection, Postgres waits without end."""
        if self.is_postgres:
            bound(connection, self._patience)
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(self._patience * 1000)}")

    def _lock(self, connection: sa.Connection, key: int) -> None:
        """Hold until the transaction's end what SQLite's one writer has anyway."""
        if self.is_postgres:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def _opened(self) -> sa.Engine:
        if self._engine is None:
            self._engine = _of_file(self._url, self._patience) if self.path else server_of(self._url).engine
        return self._engine

    def _bring_to_newest(self, connection: sa.Connection) -> None:
        revision = _revision(connection)
        connection.rollback()
        if revision == NEWEST:
            return
        with connection.execution_options(**{_WRITES: True}).begin():
            self._wait_for_others(connection)
            self._lock(connection, _SCHEMA_LOCK)
            revision = _revision(connection)  # another process may have done it while this one waited
            if revision is None and not connection.dialect.has_table(connection, events.name):
                metadata.create_all(connection)
                connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
                connection.execute(sa.insert(_REVISION).values(version_num=NEWEST))
            elif revision != NEWEST:
                from trainyard.ledger.migrations.upgrade import is_known, upgrade  # 0.15 s, paid once a ledger

                if revision is not None and not is_known(revision):
                    raise UserError(
                        f"{self.name}: the ledger is of a newer version of Trainyard (its schema is {revision}, this one knows {NEWEST})",
                        hint="Use that version or a newer one: trainyard upgrade, or pipx upgrade trainyard",
                    )
                upgrade(connection)

    def _problem(self, error: Exception) -> TrainyardError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        said = str(cause).strip().partition("\n")[0]
        if self.path is None:
            server_of(self._url).note(cause or error)
            look = "Is the server there, and is TRAINYARD_LEDGER right? Without it the ledger is .trainyard/ledger.db."
            return UserError(f"{self.name}: the ledger cannot be used: {said}", hint=look)
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the rest tells only finer shades
        if code == sqlite3.SQLITE_FULL:
            return no_space(self.path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Busy(f"{self.path}: another process holds the ledger: {said}")
        damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        hint = f"Move it away and a new one is begun, from which spending limits then count: {_aside(self.path)}" if damaged else None
        return UserError(f"{self.path}: the ledger cannot be used: {said}", hint=hint)


def _of_file(url: sa.URL, patience: float) -> sa.Engine:
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": patience}, hide_parameters=True)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def insert_into(table: sa.Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """Return the INSERT of a dialect, which can say what is done about a row that is there already."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql as server  # 0.03 s, that a file need not pay

    return server.insert(table)


def _aside(path: Path) -> str:
    """Return the command that moves a damaged ledger away, with the journal that belongs to it."""
    moves = [(path.with_name(path.name + end), path.with_name(f"{path.name}.damaged{end}")) for end in ("", "-wal", "-shm")]
    return " && ".join(shlex.join(["mv", str(old), str(new)]) for old, new in moves if old == path or old.exists())


def _postgres_url(place: Secret) -> sa.URL:
    try:
        url = sa.engine.make_url(place.reveal())
    except (SQLAlchemyError, ValueError):
        url = None
    if url is None or url.drivername not in ("postgresql", "postgres", f"postgresql+{_DRIVER}"):
        raise UserError(
            "TRAINYARD_LEDGER is no URL of a Postgres",
            hint="It looks like postgresql://USER:PASSWORD@HOST/DATABASE. Unset, the ledger is .trainyard/ledger.db.",
        )
    if "@" in (url.host or ""):  # what stands before it is the end of the password: no message may call it a host
        raise UserError("TRAINYARD_LEDGER has a second @ before its host", hint="In a password, write @ as %40, / as %2F and % as %25.")
    Secret(str(url.password or ""))  # from now on no message shows it, whoever wrote that
    return url.set(drivername=f"postgresql+{_DRIVER}")


def _revision(connection: sa.Connection) -> str | None:
    """Return the schema's revision, None where no migration has been here."""
    if not connection.dialect.has_table(connection, _REVISION.name):
        return None
    revision: str | None = connection.execute(sa.select(_REVISION.c.version_num)).scalar()
    return revision


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # Python's own way begins no transaction before SELECT and CREATE; ours is _begin
    try:
        connection.execute("PRAGMA journal_mode=WAL")  # kept in the file; where a disk cannot, the old mode stays
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
            raise


def _begin(connection: sa.Connection) -> None:
    # A writer has its right from the start: two that read first could never both go on.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")
