"""The audit log: who did what when, each row bound to the one before it by its hash. Nothing is ever changed or removed."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from trainyard.ledger import tables
from trainyard.ledger.database import Database
from trainyard.secret import hide

Breach = Literal["changed", "missing", "unlinked", "cut off", "other chain"]
"""changed: a row is not what its hash says. missing: a number is left out. unlinked: it does not follow on the row before it.
cut off: the bucket knows more rows. other chain: the bucket knows another row of that number."""
_TOGETHER = 2000
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One thing that somebody did. ``data`` is JSON as it is hashed; time is epoch seconds."""

    sequence: int
    time: float
    actor: str
    machine: str
    action: str
    subject: str
    data: str
    previous: str
    hash: str

    def digest(self) -> str:
        """Return the sha256 that its hash has to be: over its fields but the hash, as JSON with sorted names and no spaces."""
        fields = {name: value for name, value in asdict(self).items() if name != "hash"}
        return hashlib.sha256(_canonical(fields).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How far a chain had come: the number and hash of its newest row. ``chain`` names it, whatever database it is in."""

    chain: str
    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditProof:
    """What was proven of the audit log: so many rows from the first on, and where it breaks, if it does."""

    rows: int
    head: AuditHead | None
    breach: Breach | None = None
    at: int | None = None
    """The number of the row at which it breaks."""
    why: str = ""
    anchors: int = 0
    """So many anchors agree with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which rows are asked for: each part that is not None has to fit."""

    since: float | None = None
    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    """A run, stack or pod; a run's name also means its attempts."""
    limit: int | None = None


def append(database: Database, actor: str, action: str, subject: str, data: Mapping[str, Any]) -> AuditRow:
    """Add a row in a transaction of its own; raises Busy, DiskFull or UserError when the ledger cannot be written."""
    with database.chaining() as connection:
        return append_in(connection, actor, action, subject, data)


def append_in(connection: sa.Connection, actor: str, action: str, subject: str, data: Mapping[str, Any]) -> AuditRow:
    """Add a row within a transaction of chaining(). No known secret is written, whatever the texts hold."""
    columns = tables.audit.c
    newest = connection.execute(sa.select(columns.sequence, columns.hash).order_by(columns.sequence.desc()).limit(1)).first()
    row = AuditRow(
        sequence=newest.sequence + 1 if newest else 1,
        time=round(time.time(), 3),
        actor=_plain(actor), machine=_plain(socket.gethostname()), action=_plain(action), subject=_plain(subject),
        data=_plain(_canonical(_shown(data))),
        previous=newest.hash if newest else secrets.token_hex(32),  # no two chains begin alike: an anchor is of one of them
        hash="",
    )  # fmt: skip
    values = {**asdict(row), "hash": row.digest()}
    connection.execute(sa.insert(tables.audit), values)
    return AuditRow(**values)


def rows(database: Database, asked: AuditFilter) -> list[AuditRow]:
    """Return the rows that are asked for, oldest first; of more than the limit the newest."""
    columns = tables.audit.c
    conditions = [columns[name] == value for name in ("actor", "action") if (value := getattr(asked, name)) is not None]
    conditions += [] if asked.since is None else [columns.time >= asked.since]
    if asked.subject is not None:
        conditions.append(sa.or_(columns.subject == asked.subject, columns.subject.startswith(f"{asked.subject}/", autoescape=True)))
    query = sa.select(tables.audit).where(*conditions).order_by(columns.sequence.desc()).limit(asked.limit)
    with database.reading() as connection:
        return [AuditRow(**row._mapping) for row in reversed(connection.execute(query).all())]


def head(database: Database) -> AuditHead | None:
    """Return how far the chain has come, None for one without rows."""
    columns = tables.audit.c
    query = sa.select(columns.sequence, columns.previous, columns.hash)
    with database.reading() as connection:
        first = connection.execute(query.order_by(columns.sequence).limit(1)).first()
        last = connection.execute(query.order_by(columns.sequence.desc()).limit(1)).first()
    return AuditHead(_chain(first.previous), last.sequence, last.hash) if first and last else None


def verify(database: Database, anchors: Sequence[AuditHead] = ()) -> AuditProof:
    """Prove the whole log row by row, and that it holds what ``anchors`` of its chain tell; memory does not grow with it."""
    with database.snapshot() as connection:
        query = sa.select(tables.audit).order_by(tables.audit.c.sequence)
        with connection.execution_options(yield_per=_TOGETHER).execute(query) as result:
            return _prove((AuditRow(**row._mapping) for row in result), anchors)


def _prove(log: Iterable[AuditRow], anchors: Sequence[AuditHead]) -> AuditProof:
    """Prove rows in their order against each other and against anchors of the same chain."""
    anchored = {anchor.sequence: anchor.hash for anchor in anchors}
    proven: AuditHead | None = None
    met = 0
    for row in log:
        fault = _fault(row, proven)
        if fault is None and anchored.get(row.sequence, row.hash) != row.hash:
            fault = "other chain", "the bucket's anchor of this number has another hash"
        if fault is not None:
            rows_proven = proven.sequence if proven else 0
            return AuditProof(rows_proven, proven, fault[0], rows_proven + 1 if fault[0] == "missing" else row.sequence, fault[1], met)
        met += row.sequence in anchored
        proven = AuditHead(proven.chain if proven else _chain(row.previous), row.sequence, row.hash)
    count = proven.sequence if proven else 0
    beyond = max((number for number in anchored if number > count), default=None)
    if beyond is not None:
        return AuditProof(count, proven, "cut off", count + 1, f"the bucket has an anchor of row {beyond}", met)
    return AuditProof(count, proven, anchors=met)


def _fault(row: AuditRow, before: AuditHead | None) -> tuple[Breach, str] | None:
    due = before.sequence + 1 if before else 1
    if row.sequence != due:
        return "missing", f"row {row.sequence} comes where row {due} is due"
    if row.digest() != row.hash:
        return "changed", "what it holds is not what its hash says"
    if before is not None and row.previous != before.hash:
        return "unlinked", f"it does not follow on row {before.sequence}"
    return None


def take_in(source: sa.Connection, target: sa.Connection) -> int | None:
    """Copy the rows of another ledger's log that go on where this one ends; return how many. Of another chain nothing is taken: None."""
    columns = tables.audit.c
    newest = target.execute(sa.select(columns.sequence, columns.hash).order_by(columns.sequence.desc()).limit(1)).first()
    if newest is not None:
        ends = source.execute(sa.select(sa.func.max(columns.sequence))).scalar() or 0
        meets = min(ends, newest.sequence)
        at = sa.select(columns.hash).where(columns.sequence == meets)
        if meets and source.execute(at).scalar() != target.execute(at).scalar():
            return None
    query = sa.select(tables.audit).where(columns.sequence > (newest.sequence if newest else 0)).order_by(columns.sequence)
    taken = 0
    for piece in _pieces(source, query):
        target.execute(sa.insert(tables.audit), piece)
        taken += len(piece)
    return taken


def _pieces(source: sa.Connection, query: sa.Select[Any]) -> Iterator[list[dict[str, Any]]]:
    for part in source.execution_options(yield_per=_TOGETHER).execute(query).partitions():
        yield [dict(row._mapping) for row in part]


def _chain(first: str) -> str:
    return first[:16]


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def _shown(value: Any) -> Any:
    """Return data whose texts show no known secret: as JSON its letters may be written otherwise."""
    if isinstance(value, Mapping):
        return {str(name): _shown(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(part) for part in value]
    return value if value is None or isinstance(value, (bool, int, float)) else hide(str(value))


def _plain(text: str) -> str:
    return hide(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode()  # what Postgres stores
