"""How a ledger of an older version becomes one of this: Alembic's migrations, in their order."""
