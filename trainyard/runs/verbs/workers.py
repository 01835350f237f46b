"""Machines that join a server by a token, as an admin sees to them: make one, drain it, give it another token, take it out."""

from __future__ import annotations

import re
import shutil
import time

from trainyard.clock import format_time
from trainyard.clouds.ssh.joined import folder_of, leases_until, set_draining
from trainyard.config import ACCOUNT
from trainyard.errors import UserError
from trainyard.ledger.accounts import AccountRows, TokenRows
from trainyard.ledger.workers import WorkerRow, WorkerRows
from trainyard.runs.context import CommandContext
from trainyard.runs.records.acts import record_act
from trainyard.runs.verbs.accounts import LONGEST
from trainyard.settings.user import user_name

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_DAY = 86_400.0


def add_worker(context: CommandContext, name: str, days: float) -> str:
    """Make a worker and return the token that lets one machine join as it; raises UserError for a name that is taken or none."""
    if not _NAME.fullmatch(name):
        raise UserError(f"{name}: a worker's name has small letters, digits and hyphens, 41 at most")
    if _rows(context).get(name) is not None:
        raise UserError(f"there is a worker '{name}' already", hint=f"Another token for it: invoke worker.rotate {name}")
    record_act(context, "add worker", name, must=True, days=days)
    token_id, text = _issue(context, name, days)
    if not _rows(context).add(WorkerRow(name=name, token=token_id, created=time.time())):
        raise UserError(f"there is a worker '{name}' already")
    return text


def rotate_worker(context: CommandContext, name: str, days: float) -> str:
    """Return another token for a worker; the one that it had proves nothing from now on."""
    row = worker_of(context, name)
    record_act(context, "rotate worker", name, must=True, days=days)
    token_id, text = _issue(context, name, days)
    _rows(context).change(name, token=token_id)
    TokenRows(context.ledger().database).revoke(row.token, time.time())
    return text


def drain_worker(context: CommandContext, name: str, *, drains: bool) -> WorkerRow:
    """Let a worker take no new lease, and leave when its last one is over; or let it take some again."""
    row = worker_of(context, name)
    record_act(context, "drain worker" if drains else "undrain worker", name, must=True)
    _rows(context).change(name, draining=(row.draining or time.time()) if drains else None)
    set_draining(context.places.home, name, draining=drains)
    return worker_of(context, name)


def remove_worker(context: CommandContext, name: str) -> None:
    """Forget a worker and let its token prove nothing; raises UserError while a lease may be on it."""
    row = worker_of(context, name)
    until = leases_until(context.places.home, name)
    if until is not None:
        raise UserError(
            f"worker '{name}' may have a lease until {format_time(until)}", hint=f"invoke worker.drain {name}, and remove it then."
        )
    record_act(context, "remove worker", name, must=True)
    TokenRows(context.ledger().database).revoke(row.token, time.time())
    _rows(context).remove(name)
    shutil.rmtree(folder_of(context.places.home, name), ignore_errors=True)


def worker_of(context: CommandContext, name: str) -> WorkerRow:
    """Return a worker; raises UserError for one that is not there."""
    row = _rows(context).get(name)
    if row is None:
        raise UserError(f"there is no worker '{name}'", hint="See those that there are: invoke workers")
    return row


def all_workers(context: CommandContext) -> list[WorkerRow]:
    """Return all workers by name."""
    return _rows(context).all()


def _issue(context: CommandContext, name: str, days: float) -> tuple[str, str]:
    account, now = context.env.get(ACCOUNT) or user_name(context.env), time.time()
    if AccountRows(context.ledger().database).get(account) is None:
        raise UserError(f"there is no account '{account}' of a server here", hint="Start `invoke serve` once: that makes you its admin.")
    if not 0 < days <= LONGEST:
        raise UserError(f"a token lasts more than 0 and at most {LONGEST:.0f} days, not {days:g}")
    row, text = TokenRows(context.ledger().database).issue("worker", account, name, (), now, now + days * _DAY)
    return row.id, text


def _rows(context: CommandContext) -> WorkerRows:
    return WorkerRows(context.ledger().database)
