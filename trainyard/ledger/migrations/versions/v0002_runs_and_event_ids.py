"""Rows of runs; events get an id that is theirs on every machine, and the name of the machine they happened on."""

from __future__ import annotations

import socket
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Move the old events over, and make the table of runs."""
    op.rename_table("events", "events_of_0001")
    op.drop_index("events_by_run", "events_of_0001", if_exists=True)
    new = op.create_table(
        "events",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("mirrored", sa.Boolean, nullable=False),
    )
    _move(new)
    op.drop_table("events_of_0001")
    op.create_index("events_by_run", "events", ["user", "label", "attempt", "time"])
    op.create_index("events_by_kind", "events", ["kind", "time"])
    op.create_index("events_not_mirrored", "events", ["mirrored", "machine"])
    _make_runs()


def _move(new: sa.Table) -> None:
    """Copy the events in their order; those of old ledgers happened on this machine."""
    connection, machine = op.get_bind(), socket.gethostname()
    names = ("time", "user", "label", "attempt", "kind", "data")
    old = sa.table("events_of_0001", sa.column("id"), *(sa.column(name) for name in names))
    rows = [dict(row._mapping) for row in connection.execute(sa.select(old).order_by(old.c.id))]
    fresh = [{**{name: row[name] for name in names}, "id": uuid.uuid4().hex, "machine": machine, "mirrored": False} for row in rows]
    if fresh:
        connection.execute(sa.insert(new), fresh)


def _make_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("token", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("stack", "cloud", "recipe", "state")),
        sa.Column("over", sa.Boolean, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("started", "ended")),
        sa.Column("hours", sa.Double, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("steps_done", "steps_planned")),
        *(sa.Column(name, sa.Double) for name in ("loss", "learning_rate", "eta", "estimate")),
        sa.Column("cost", sa.Double, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("s3_url", "local_path")),
        sa.Column("owed", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("error", "git_commit")),
        sa.Column("changed", sa.Double, nullable=False),
    )
    op.create_index("runs_by_time", "runs", ["created", "user", "label", "attempt"])
    op.create_index("runs_not_over", "runs", ["over", "created"])
    op.create_index("runs_by_user", "runs", ["user", "created"])
    op.create_index("runs_by_stack", "runs", ["stack", "created"])
