"""Anchors of what is done without a run: into the stacks' buckets, beside the verb's own work, which goes on whatever becomes of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainyard.errors import StoreError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.acts import anchor
from trainyard.runs.verbs.sharing import stores

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger
    from trainyard.storage.client import StoreSettings

_PATIENCE = 1.0
"""Seconds that the end of a verb waits for what its own work was too short for."""


@contextmanager
def anchoring(context: CommandContext) -> Iterator[None]:
    """While the block works, write how far the audit log has come into each bucket that this repository's stacks name and has keys of.

    The local store is left out: whoever changes the ledger of this machine changes that, too.
    """
    thread = threading.Thread(target=_anchor, args=(context,), name="anchor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(_PATIENCE)


def anchor_in(ledger: Ledger, buckets: Iterable[StoreSettings]) -> None:
    """Write how far the audit log has come into each bucket that takes it: the next anchor tells of these rows, too."""
    for store in buckets:
        with contextlib.suppress(StoreError, UserError):
            anchor(ledger, store)


def _anchor(context: CommandContext) -> None:
    with contextlib.suppress(Exception):  # whatever it is, the verb is not told of it
        anchor_in(context.ledger(), stores(context))
