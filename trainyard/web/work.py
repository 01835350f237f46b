"""Have a verb done for somebody: in a process of its own, which the end of the server does not end, under that account's name.

The verbs stay the only way to do anything: what holds for a command line (audit log, locks, guarantees, what a kill leaves) holds here.
"""

from __future__ import annotations

import socket
import sys
import uuid
from collections.abc import Sequence

from trainyard.config import ACCOUNT
from trainyard.ledger.accounts import Proven
from trainyard.ledger.operations import ServerOperation
from trainyard.processes import start_apart, start_mark
from trainyard.web.site import Site

_BEGINS = 30.0
"""Seconds in which a process that was started says which one it is."""


def begin(site: Site, who: Proven, request_id: str, words: Sequence[str], *, subject: str) -> ServerOperation:
    """Begin a verb for an account and return the operation that tells how it goes; ``words``: as one types it behind `trainyard`."""
    operation = ServerOperation(
        id=uuid.uuid4().hex, account=who.account.name, request=request_id, verb=words[0], subject=subject, words=tuple(words),
        created=site.now(), machine=socket.gethostname(),
    )  # fmt: skip
    site.operations.add(operation)
    env = site.environment(**{ACCOUNT: who.account.name})
    start_apart([sys.executable, "-m", "trainyard.web.operation", operation.id], cwd=site.context.places.root, env=env).close()
    return operation


def settle(site: Site) -> int:
    """Write down which operations of this machine have lost their process; return how many."""
    lost = 0
    for each in site.operations.newest(1000, running=True):
        if each.machine == socket.gethostname() and not _is_alive(each, site.now()):
            said = "its process has ended without a word; how far it came is told by the run itself"
            lost += site.operations.change(each.id, state="lost", ended=site.now(), said=said)
    return lost


def _is_alive(operation: ServerOperation, now: float) -> bool:
    if operation.process is None:
        return now - operation.created < _BEGINS
    pid, _, mark = operation.process.partition(" ")
    return start_mark(int(pid)) == mark
