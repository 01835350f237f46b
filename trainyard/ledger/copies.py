"""Copies of a ledger: a file that holds all of it, and what such a file holds taken in again."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa

from trainyard.errors import UserError
from trainyard.files import sync
from trainyard.jsontext import parse_json
from trainyard.ledger import auditlog
from trainyard.ledger.database import Database, insert_into
from trainyard.ledger.rows import REMOVED
from trainyard.ledger.tables import audit, events, metadata, runs

_TOGETHER = 2000
"""Rows that are copied in one statement."""


def backup(database: Database, file: Path) -> Mapping[str, int]:
    """Write all that a ledger holds at one moment into a new SQLite file; return the rows of each table.

    Raises UserError when the file is there already. A backup that is cut off leaves no file.
    """
    if file.exists():
        raise UserError(f"{file} is there already; nothing was written", hint="Name a new file.")
    if not file.parent.is_dir():
        raise UserError(f"{file.parent} is no folder; nothing was written")
    with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as folder:
        fresh = Path(folder) / "ledger.db"
        with database.snapshot() as source, Database(fresh).writing() as target:
            counts = _copy(source, target)
        sync(fresh)
        fresh.rename(file)
    return counts


def restore(database: Database, file: Path) -> Mapping[str, int]:
    """Take in what a backup holds and the ledger does not; return the new rows of each table. The file stays as it is.

    Raises UserError when it is no ledger, or one of a newer version.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    with tempfile.TemporaryDirectory(prefix="trainyard-") as folder:
        copy = Path(folder) / file.name  # one of an older version is migrated there, and not where it lies
        for end in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{file}{end}", f"{copy}{end}")
        backed_up = Database(copy)
        try:
            is_ledger = backed_up.has_table(events.name)
        except UserError:
            raise UserError(f"{file} is no ledger") from None
        if not is_ledger:
            raise UserError(f"{file} is no ledger: it has no table of events")
        with backed_up.reading() as source, database.chaining() as target:
            counts = _copy(source, target)
            return {**counts, runs.name: counts[runs.name] - _forget_removed(target)}


def _forget_removed(target: sa.Connection) -> int:
    """Take out the rows of runs that a person has removed, and return how many: a backup may have them still."""
    at, forgotten = events.c, 0
    for row in target.execute(sa.select(events).where(at.kind == REMOVED)).all():
        same = [runs.c[name] == getattr(row, name) for name in ("user", "label", "attempt")]
        token = parse_json(row.data).get("token", "")
        forgotten += target.execute(sa.delete(runs).where(*same, runs.c.token == token)).rowcount
    return forgotten


def _copy(source: sa.Connection, target: sa.Connection) -> Mapping[str, int]:
    """Copy the rows that the target lacks; what it has stays as it is there."""
    counts: dict[str, int] = {}
    for table in metadata.sorted_tables:
        if table is audit:
            counts |= _copy_audit(source, target)
            continue
        columns = [column for column in table.columns if column is not table.autoincrement_column]
        before = _count(target, table)
        for rows in _pieces(source, sa.select(*columns).order_by(*table.primary_key)):
            target.execute(insert_into(table, target.dialect.name).on_conflict_do_nothing(), [dict(row._mapping) for row in rows])
        counts[table.name] = _count(target, table) - before
    return counts


def _copy_audit(source: sa.Connection, target: sa.Connection) -> Mapping[str, int]:
    taken = auditlog.take_in(source, target)
    return {audit.name: taken} if taken is not None else {audit.name: 0, f"{audit.name} of another chain (left out)": _count(source, audit)}


def _pieces(source: sa.Connection, query: sa.Select[tuple[object, ...]]) -> Iterator[list[sa.Row[tuple[object, ...]]]]:
    for rows in source.execution_options(yield_per=_TOGETHER).execute(query).partitions():
        yield list(rows)


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0)
