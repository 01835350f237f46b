"""Which entries of the queue get their stack when they begin."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; what was submitted before has its stack."""
    op.add_column("queue", sa.Column("auto", sa.Boolean, nullable=False, server_default=sa.false()))
