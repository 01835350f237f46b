"""What every request works with: the repository, its ledger, the clock, and how the server may be reached."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from trainyard.ledger.accounts import AccountRows, TokenRows
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.operations import OperationRows
from trainyard.runs.context import CommandContext


@dataclass(frozen=True)
class Site:
    """One server's surroundings. ``now``: epoch seconds."""

    context: CommandContext
    secure: bool = False
    """Browsers reach it by TLS: here, or at the proxy that it stands behind."""
    now: Callable[[], float] = field(default=time.time)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables of a verb's process: this one's, and what the repository's `.env` says."""
        return {**os.environ, **self.context.env, **more}

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The ledger that the verbs write to."""
        return self.context.ledger()

    @functools.cached_property
    def accounts(self) -> AccountRows:
        """Who may do what."""
        return AccountRows(self.ledger.database)

    @functools.cached_property
    def tokens(self) -> TokenRows:
        """What proves who asks."""
        return TokenRows(self.ledger.database)

    @functools.cached_property
    def operations(self) -> OperationRows:
        """What people had it do."""
        return OperationRows(self.ledger.database)
