"""What a person does goes into the audit log, and how far that log has come into the bucket of the run at hand.

An act that ends something, or that goes on with what is paid for, never waits for the log: trouble with it is said. An act that
loosens what holds money back (``must``) is not done without its row.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trainyard.config import ACCOUNT
from trainyard.errors import TrainyardError, UserError, in_short
from trainyard.jsontext import parse_json
from trainyard.runs.context import CommandContext
from trainyard.runs.records import codec
from trainyard.settings.table import StackSettings
from trainyard.settings.user import user_name

if TYPE_CHECKING:
    from trainyard.ledger.auditlog import AuditHead
    from trainyard.ledger.ledger import Ledger
    from trainyard.storage.client import StoreSettings

_PATIENCE = 1.0
"""Seconds that a row waits for another process's: no act is to be slower for it."""
_CI = ("GITHUB_ACTOR", "GITLAB_USER_LOGIN")
"""Variables by which a CI tells whose push or click it works for."""
_HOLDS = ("limit_day", "limit_week", "limit_month", "max_price", "budget")
"""Settings that hold money back: a larger one, or none, is looser."""


@dataclass(frozen=True, slots=True)
class AuditAnchor:
    """What an anchor in a bucket says: the chain's newest row at a moment, and a digest of where its ledger is."""

    chain: str
    sequence: int
    hash: str
    time: float
    ledger: str


def record_act(context: CommandContext, action: str, subject: str, *, must: bool = False, **data: Any) -> None:
    """Write down who does what to what, now. With ``must`` raises what the ledger raises where that cannot be written."""
    from trainyard.ledger import auditlog

    try:
        auditlog.append(context.ledger(_PATIENCE).database, _actor(context), action, subject, data)
    except (OSError, TrainyardError) as error:
        why = in_short(error)
        if must:
            raise UserError(f"{action} {subject}: not done, as the audit log cannot be written: {why}") from None
        context.ui.warn(f"the audit log cannot be written ({action} {subject} goes on): {why}")


def record_limits(context: CommandContext, stack: str, settings: StackSettings) -> None:
    """Write down what holds a stack's money back where that has changed since it was last, and what of it is looser."""
    from trainyard.ledger import auditlog

    now: dict[str, Any] = {name: getattr(settings, name) for name in (*_HOLDS, "limit_action")}
    now["limits"] = sorted(json.dumps(dict(block), sort_keys=True, default=str) for block in settings.limits)
    try:
        seen = auditlog.rows(context.ledger(_PATIENCE).database, auditlog.AuditFilter(action="limits", subject=stack, limit=1))
        before = parse_json(seen[0].data)["now"] if seen else None
    except (OSError, TrainyardError, ValueError, KeyError):
        return  # whoever spends says what is wrong with the ledger
    if before != now:
        record_act(context, "limits", stack, now=now, before=before, looser=_looser(before or {}, now))


def _looser(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = [name for name in _HOLDS if (was := before.get(name)) is not None and (now[name] is None or now[name] > was)]
    names += ["limit_action"] if before.get("limit_action") == "block" and now["limit_action"] != "block" else []
    return names + (["limits"] if set(before.get("limits", ())) - set(now["limits"]) else [])


def anchor(ledger: Ledger, settings: StoreSettings) -> AuditHead | None:
    """Write how far the audit log has come into a bucket, once a row; raises StoreError and what the ledger raises."""
    from trainyard.ledger import auditlog
    from trainyard.storage.auditanchors import put_anchor

    head = auditlog.head(ledger.database)
    if head is not None:
        body = AuditAnchor(head.chain, head.sequence, head.hash, round(time.time(), 3), place_of(ledger))
        put_anchor(settings, head.chain, head.sequence, json.dumps(asdict(body)).encode())
    return head


def read_anchor(body: bytes) -> AuditAnchor:
    """Return what an anchor says; raises ValueError for what is none."""
    return codec.read(AuditAnchor, parse_json(body))


def place_of(ledger: Ledger) -> str:
    """Return by what an anchor knows its ledger again, without telling where that is."""
    where = ledger.database.name if ledger.database.is_postgres else f"{socket.gethostname()}:{ledger.database.name}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def _actor(context: CommandContext) -> str:
    if account := context.env.get(ACCOUNT):
        return account
    by_ci = next((value for name in _CI if (value := context.env.get(name))), None)
    try:
        return by_ci or user_name(context.env)
    except UserError:
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return f"uid{os.getuid()}"
