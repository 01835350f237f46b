"""Carry out the migrations that a ledger has not had, in the transaction of whoever asks."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError


def upgrade(connection: sa.Connection) -> None:
    """Bring the schema to the newest; what the tables hold stays."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def is_known(revision: str) -> bool:
    """Tell whether a schema's revision is one of this version or an earlier one."""
    scripts = ScriptDirectory.from_config(_config())
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
