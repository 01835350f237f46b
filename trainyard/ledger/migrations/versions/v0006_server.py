"""What a server needs: accounts, tokens, what people had it do, answers to repeated requests, what it does by schedule, its workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables; no older version has anything to put there."""
    _make_people()
    op.create_table(
        "operations",
        sa.Column("id", sa.String(32), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("account", "request", "verb", "subject", "words", "state")),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("exit_code", sa.Integer),
        *(sa.Column(name, sa.Text) for name in ("output", "said")),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("process", sa.Text),
    )
    op.create_index("operations_by_time", "operations", ["created"])
    op.create_index("operations_by_subject", "operations", ["subject", "created"])
    op.create_table(
        "answers",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("account", "key")),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.Text),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text),
        sa.Column("until", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("begun", "ended")),
        *(sa.Column(name, sa.Text) for name in ("outcome", "said")),
    )
    _make_workers()


def _make_workers() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("token", sa.String(12), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("labels", "gpus")),
        sa.Column("memory_gb", sa.Double),
        *(sa.Column(name, sa.Text) for name in ("version", "host_key", "server")),
        *(sa.Column(name, sa.Double) for name in ("joined", "beat")),
        sa.Column("pods", sa.Integer, nullable=False),
        sa.Column("draining", sa.Double),
    )


def _make_people() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("team", sa.Text),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("disabled", "month_dollars")),
        sa.Column("live_runs", sa.Integer),
    )
    op.create_table(
        "teams",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("month_dollars", sa.Double),
        sa.Column("live_runs", sa.Integer),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(12), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "account", "name")),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("created", "expires")),
        *(sa.Column(name, sa.Double) for name in ("used", "revoked")),
        sa.Column("parent", sa.String(12)),
    )
    op.create_index("tokens_by_account", "tokens", ["account", "kind"])
