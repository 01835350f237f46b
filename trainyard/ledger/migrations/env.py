"""What Alembic runs for each migration: on the connection that it was handed, within its transaction."""

from __future__ import annotations

from alembic import context

from trainyard.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
