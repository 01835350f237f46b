"""What a person does to what waits: hold, release, approve, reject, prefer, take out. What has begun is a run, and cancelled as one."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from trainyard.config import ACCOUNT
from trainyard.errors import RefusedError, TrainyardError, UserError
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.runs.context import CommandContext
from trainyard.runs.notices.announce import announce
from trainyard.runs.notices.notice import Notice
from trainyard.runs.queue.claims import host_of, is_here
from trainyard.runs.queue.priority import check_priority
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.identity import shown
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import RunSummary
from trainyard.runs.verbs.attach import cancel

_PATIENCE = 1.0
"""Seconds that who ends a run waits for the ledger: the run is paid for."""


def hold(context: CommandContext, reference: str) -> QueueEntry:
    """Keep an entry from beginning until it is released."""
    return _changed(context, "hold", _waiting(context, reference), held=f"by {person(context)}")


def release(context: CommandContext, reference: str) -> QueueEntry:
    """Let an entry that is held begin when it is its turn; one that is to be tried again is tried at once."""
    entry = _waiting(context, reference)
    if entry.held is None and not entry.due:
        raise RefusedError(f"{entry.run} is not held; nothing was changed", hint="Why it waits: invoke queue")
    return _changed(context, "release", entry, held=None, due=0.0, tries=0)


def prefer(context: CommandContext, reference: str, priority: int) -> QueueEntry:
    """Give an entry another priority."""
    return _changed(context, "prefer", _waiting(context, reference), priority=check_priority(priority))


def approve(context: CommandContext, reference: str) -> QueueEntry:
    """Let an entry begin that waits for a person's word; who gave it is written down. Raises RefusedError for one that waits for none."""
    entry = _waiting(context, reference)
    if entry.approval != "needed":
        raise RefusedError(f"{entry.run} waits for nobody's approval ({entry.approval}); nothing was changed")
    decided = _changed(context, "approve", entry, approval="approved", decided_by=person(context), decided=time.time())
    _tell(context, decided, f"It begins when it is its turn.\nLook: invoke queue\nTake it out: invoke cancel {entry.run}")
    return decided


def reject(context: CommandContext, reference: str) -> QueueEntry:
    """End an entry that has not begun, as one that a person did not want to run; who said so is written down."""
    now, entry = time.time(), _waiting(context, reference)
    decided = _changed(
        context, "reject", entry, state="over", outcome="rejected", approval="rejected", decided_by=person(context), decided=now, ended=now
    )
    _tell(context, decided, "It does not begin, and has cost nothing.")
    return decided


def withdraw(context: CommandContext, reference: str) -> QueueEntry | None:
    """Take a run out that has not begun; return None where no entry of that name waits, or the ledger does not tell: a run is ended anyway.

    Raises UserError where entries of several users wait, RefusedError where a worker has begun it this very moment.
    """
    try:
        waiting = [entry for entry in _entries(context, reference, _PATIENCE) if entry.state == "queued"]
    except TrainyardError as error:
        context.ui.warn(f"whether {shown(reference)} waits in the queue cannot be asked: {error.message}")
        return None
    entry = _only(reference, waiting) if waiting else None
    return entry and _changed(context, "withdraw", entry, state="over", outcome="withdrawn", decided_by=person(context), ended=time.time())


def end(context: CommandContext, reference: str, *, now: bool) -> QueueEntry | RunSummary | None:
    """End a run wherever it is: return the entry of one that was taken out of the queue, else what cancel() does.

    Raises UserError where entries of several users wait, and what cancel() does.
    """
    with contextlib.suppress(RefusedError):  # a worker has begun it this very moment: it is ended as what has begun
        if (entry := withdraw(context, reference)) is not None:
            return entry
    try:
        return cancel(context, reference, now=now)
    except UserError:
        if (entry := _called_back(context, reference)) is None:
            raise
    try:
        return cancel(context, reference, now=now)  # its record may have come this very moment
    except UserError:
        return entry


def _called_back(context: CommandContext, reference: str) -> QueueEntry | None:
    """Take a run out that a worker of this checkout has begun to see to and that has no record here yet; None where there is none.

    The worker looks once more when the record is there, and rents nothing then. So whoever calls looks for a record afterwards, too.
    Raises RefusedError where the worker is another checkout's: only there it can be ended.
    """
    try:
        begun = [entry for entry in _entries(context, reference, _PATIENCE) if entry.state == "begun"]
    except TrainyardError:
        return None
    if not begun:
        return None
    entry = _only(reference, begun)
    if not is_here(entry, context.places.home):
        raise RefusedError(
            f"a worker on {host_of(entry)} has begun {entry.run}, whose record is not here; nothing was changed",
            hint=f"There, or in its checkout: invoke cancel {entry.run}",
        )
    folders = (RunFolder(path) for path in (context.places.runs / entry.user / entry.label).glob("*") if (path / "run.json").is_file())
    if any(folder.load().entry == entry.id for folder in folders):
        return None
    now = time.time()
    done = QueueRows(context.ledger().database).change(entry, state="over", outcome="withdrawn", decided_by=person(context), ended=now)
    if done:
        record_act(context, "withdraw", entry.run, stack=entry.stack, estimate=entry.estimate)
    return entry if done else None


def person(context: CommandContext) -> str:
    """Return who does something here: the account that a server does it for, else login and machine."""
    if account := context.env.get(ACCOUNT):
        return account
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container runs as a number that has no name
        name = f"uid{os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _entries(context: CommandContext, reference: str, patience: float | None = None) -> list[QueueEntry]:
    user, _, label = reference.strip("/").rpartition("/")
    return QueueRows(context.ledger(patience).database).named(label, user or None)


def _waiting(context: CommandContext, reference: str) -> QueueEntry:
    """Return the entry that a person means; raises UserError where none waits, or several do."""
    entries = _entries(context, reference)
    waiting = [entry for entry in entries if entry.state == "queued"]
    if not waiting:
        stands = (
            f"{entries[-1].run} has begun" if entries and entries[-1].state == "begun" else f"no run {shown(reference)} waits in the queue"
        )
        raise UserError(stands, hint="See what there is: invoke queue; what has begun is ended with: invoke cancel RUN")
    return _only(reference, waiting)


def _only(reference: str, waiting: Sequence[QueueEntry]) -> QueueEntry:
    if len(waiting) > 1:
        raise UserError(f"{shown(reference)} waits in the queue for {', '.join(one.user for one in waiting)}: say {waiting[0].run}")
    return waiting[0]


def ask_for_approval(context: CommandContext, entry: QueueEntry) -> None:
    """Tell whoever the stack's settings name that an entry waits for a person's word."""
    text = f"{entry.approval_why}\nApprove it: invoke approve {entry.run}\nReject it: invoke reject {entry.run}"
    title = f"run {entry.run} waits for approval on {entry.stack}"
    data = {"estimate": entry.estimate, "submitted_by": entry.submitted_by}
    announce(context, Notice(kind="approval", title=title, text=text, stack=entry.stack, run=entry.run, data=dict(data)))


def _tell(context: CommandContext, entry: QueueEntry, what: str) -> None:
    """Tell whoever the stack's settings name of a decision: among them whoever has submitted it."""
    title = f"run {entry.run} was {entry.approval} on {entry.stack}"
    text = f"by {entry.decided_by}; submitted by {entry.submitted_by}\n{what}"
    data = {"decision": entry.approval, "decided_by": entry.decided_by, "submitted_by": entry.submitted_by, "estimate": entry.estimate}
    announce(context, Notice(kind="approval", title=title, text=text, stack=entry.stack, run=entry.run, data=dict(data)))


def _changed(context: CommandContext, action: str, entry: QueueEntry, **values: Any) -> QueueEntry:
    rows = QueueRows(context.ledger().database)
    record_act(context, action, entry.run, must=action == "approve", stack=entry.stack, estimate=entry.estimate)
    if not rows.change(entry, **values):
        if (now := rows.entry(entry.id)) is not None and now.state == "over":
            raise RefusedError(f"{entry.run} is {now.outcome} by now: nothing was changed")
        raise RefusedError(f"a worker has just begun {entry.run}: nothing was changed", hint=f"End it: invoke cancel {entry.run}")
    return rows.entry(entry.id) or entry
