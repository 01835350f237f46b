"""The queue: one row a run that was submitted, and what it is prepared from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make both tables; no older version has anything to put there."""
    op.create_table(
        "queue",
        sa.Column("id", sa.String(32), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("user", "label")),
        sa.Column("attempt", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("stack", "recipe", "gpus")),
        sa.Column("group", sa.Text),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("not_before", sa.Double),
        sa.Column("submitted", sa.Double, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("submitted_by", "machine")),
        sa.Column("estimate", sa.Double),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("held", sa.Text),
        sa.Column("approval", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("approval_why", "decided_by")),
        *(sa.Column(name, sa.Double) for name in ("decided", "begun", "ended")),
        *(sa.Column(name, sa.Text) for name in ("outcome", "reason")),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("beat", sa.Double),
    )
    op.create_index("queue_by_state", "queue", ["state", "submitted"])
    op.create_index("queue_by_name", "queue", ["user", "label"])
    op.create_index("queue_by_group", "queue", ["group"])
    op.create_table("submissions", sa.Column("id", sa.String(32), primary_key=True), sa.Column("content", sa.LargeBinary, nullable=False))
