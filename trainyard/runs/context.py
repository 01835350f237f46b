"""What every verb works with."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard import config, network
from trainyard.clouds import open_cloud
from trainyard.clouds.protocol import Cloud
from trainyard.config import Places
from trainyard.errors import UserError
from trainyard.runs.records.identity import LAST, find
from trainyard.runs.records.record import RunFolder, RunRecord, last_begun
from trainyard.runs.ui import Listener
from trainyard.settings import reader
from trainyard.settings.table import StackSettings
from trainyard.stacks import facade
from trainyard.stacks.environ import leave_other_repository
from trainyard.stacks.model import Stack

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Places, environment variables, and the way to talk to a person."""

    places: Places
    env: Mapping[str, str]
    ui: Listener
    rehearsal: Path | None = None
    """Folder of the rehearsal that this is a part of: its bucket's server ends with it."""

    def stack(self, environment: str) -> Stack:
        """Return an environment's stack."""
        return facade.environment_stack(environment, self.places, self.env)

    def settings(self, environment: str) -> StackSettings:
        """Return an environment's settings; raises UserError for anything wrong in its file."""
        return facade.settings_of(environment, self.places, self.env)

    def cloud(self, environment: str) -> Cloud:
        """Return the adapter of an environment's cloud."""
        return open_cloud(reader.cloud_of(self.places.root, environment), self.env, self.places)

    def cloud_of(self, record: RunRecord) -> Cloud:
        """Return the adapter of a run's cloud, as its own record names it: the checkout's settings may say anything by now."""
        return open_cloud(record.cloud, self.env, self.places) if record.cloud else self.cloud(record.environment)

    def ledger(self, patience: float | None = None) -> Ledger:
        """Return the ledger of this checkout; raises UserError for a TRAINYARD_LEDGER that is no URL of a Postgres.

        ``patience``: seconds that its writes wait for another process's, where the usual is too long.
        """
        from trainyard.ledger.ledger import open_ledger  # SQLAlchemy takes a fifth of a second, that few verbs need pay

        return open_ledger(self.env, self.places, patience)

    def folder(self, reference: str) -> RunFolder:
        """Return the folder of the newest attempt that a person means; UserError when there is none."""
        try:
            return RunFolder(find(self.places.runs, self.named(reference)).folder(self.places.runs))
        except UserError as error:
            raise self.unknown(reference, error) from None

    def named(self, reference: str, stack: str | None = None) -> str:
        """Return the name of the run here that ``last`` stands for, begun on a stack where one is named; any other name as it is."""
        last = last_begun(self.places.runs, stack) if reference == LAST else None
        return reference if last is None else str(last)

    def unknown(self, reference: str, error: UserError) -> UserError:
        """Return what to say of a run that has no record: what the queue knows of it, else ``error``."""
        from trainyard.runs.records.queued import as_queued

        return as_queued(self.ledger(patience=1.0), reference, error)

    def run_stack(self, record: RunRecord, folder: RunFolder) -> Stack:
        """Return the stack of one attempt."""
        return Stack(record.id.stack_name(record.environment), self.places, self.env, folder.config)


def open_context(root: Path, ui: Listener, environ: MutableMapping[str, str]) -> CommandContext:
    """Return what a verb works with in a repository.

    ``environ``: the variables it works by. What ``.env`` says is put into it: a command gives its process's own, so that
    libraries find the same. Raises UserError for a ``.env`` that cannot be read.
    """
    warning = config.env_file_warning(root)
    if warning:
        ui.warn(warning)
    leave_other_repository(environ, root)
    config.load_env(root, environ)
    network.apply(environ)
    return CommandContext(config.places(root, environ), dict(environ), ui)
