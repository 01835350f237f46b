"""Idempotency keys, and the audit log with chained hashes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make both tables; no older version has anything to put there."""
    op.create_table(
        "keys",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("time", sa.Double, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("user", "machine", "verb", "request")),
        sa.Column("hash", sa.String(64), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("run_user", "label")),
        sa.Column("attempt", sa.Integer),
        sa.Column("token", sa.Text),
    )
    op.create_index("keys_by_run", "keys", ["run_user", "label"])
    op.create_table(
        "audit",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("time", sa.Double, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("actor", "machine", "action", "subject", "data")),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("previous", "hash")),
    )
    op.create_index("audit_by_subject", "audit", ["subject", "sequence"])
