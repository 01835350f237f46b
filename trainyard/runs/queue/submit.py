"""Put a run into the queue: validated, priced and packed now, begun by a worker when it is its turn. Nothing is rented or reserved here."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from trainyard.clouds.protocol import Cloud
from trainyard.config import AUTO
from trainyard.errors import CloudError, LimitReached, RefusedError, UserError
from trainyard.ledger.keys import StartKey
from trainyard.ledger.queue import NameTaken, QueueEntry, QueueRows, QuotaReached
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import consent
from trainyard.runs.planning.waiting import cycle
from trainyard.runs.queue.changes import ask_for_approval, person
from trainyard.runs.queue.keyed import submit_once
from trainyard.runs.queue.look import say_unknown
from trainyard.runs.queue.priority import check_priority
from trainyard.runs.queue.submission import pack
from trainyard.runs.records import attempts
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.identity import new_label
from trainyard.runs.verbs.auto import renting, settled
from trainyard.runs.verbs.prepare import RunPlan, priced
from trainyard.runs.verbs.train import TrainRequest, planned_run
from trainyard.settings import reader
from trainyard.settings.approval import approval_needed, approval_rules

_RUN = re.compile(r"([a-z0-9-]+/)?[a-z0-9-]+")


@dataclass(frozen=True, slots=True)
class DraftedEntry:
    """A run that could be submitted; nothing is written yet."""

    entry: QueueEntry
    plan: RunPlan


def draft(
    context: CommandContext, request: TrainRequest, *, group: str | None = None, priority: int = 0, after: Sequence[str] = (),
    not_before: float | None = None, hold: bool = False,
) -> DraftedEntry:  # fmt: skip
    """Return the entry that submit() would write, everything validated; raises what submit() does but for consent."""
    check_priority(priority)
    for name in after:
        if not _RUN.fullmatch(name):
            raise UserError(
                f"--after {name}: a run is named as user/label, one's own as label", hint="See what there is: invoke runs, invoke queue"
            )
    plan, cloud = planned_run(context, settled(context, request))
    after = tuple(name if "/" in name else f"{plan.user}/{name}" for name in after)
    say_unknown(context, after)
    drafted = _drafted(context, plan, cloud, request.name, group=group, priority=priority, after=after, not_before=not_before, hold=hold)
    return replace(drafted, entry=replace(drafted.entry, auto=request.stack == AUTO))


def _drafted(
    context: CommandContext, plan: RunPlan, cloud: Cloud, name: str | None, *, group: str | None, priority: int, after: Sequence[str] = (),
    not_before: float | None = None, hold: bool = False,
) -> DraftedEntry:  # fmt: skip
    now = time.time()
    label = new_label(context.places.runs, plan.user, name, datetime.now(), plan.stack)
    attempts.refuse_live(context.places.runs, plan.user, label)
    if after:
        _refuse_circle(context, f"{plan.user}/{label}", after)
    estimate, reason = None, None
    try:
        estimate = priced(context, plan, cloud).estimate.most
    except LimitReached as reached:
        if not reached.ever:
            raise
        estimate, reason = reached.most, reached.message
    except CloudError as error:  # no offer now, or no answer: that is for the worker to find out when it is its turn
        reason = error.message
    if reason is not None:
        context.ui.warn(f"{reason}\nIt waits in the queue all the same.")
    why = approval_needed(approval_rules(plan.settings.approve), plan.user, plan.settings.gpu, estimate)
    who = person(context)
    entry = QueueEntry(
        id=uuid.uuid4().hex, user=plan.user, label=label, stack=plan.stack, recipe=plan.recipe.name, gpus=", ".join(plan.settings.gpu),
        group=group, priority=priority, after=tuple(after), not_before=not_before, submitted=now, submitted_by=who,
        machine=socket.gethostname(), estimate=estimate, held=f"by {who}" if hold else None,
        approval="not needed" if why is None else "needed", approval_why=why, reason=reason,
    )  # fmt: skip
    return DraftedEntry(entry, plan)


def _refuse_circle(context: CommandContext, run: str, after: Sequence[str]) -> None:
    waiting = {entry.run: entry.after for entry in QueueRows(context.ledger().database).entries() if entry.state == "queued"}
    circle = cycle({**waiting, run: tuple(after)})
    if run in circle:
        raise UserError(f"--after: these would wait for one another, so that none begins: {' -> '.join(circle)}")


def submit(
    context: CommandContext, request: TrainRequest, *, group: str | None = None, priority: int = 0, after: Sequence[str] = (),
    not_before: float | None = None, hold: bool = False, key: StartKey | None = None,
) -> QueueEntry:  # fmt: skip
    """Put a run into the queue and return its entry; what is run is what is here now, and consent to send it is asked now.

    ``group``: what it belongs to; ``after``: runs (user/label) that must have succeeded before; ``not_before``: epoch seconds.
    ``key``: said again, it gives the entry that it gave first, as that stands now.
    Raises UserError for what is wrong with it, RefusedError where consent is not given, a limit could never allow it, or its name
    is that of a run or an entry that is not over.
    """

    def put() -> QueueEntry:
        drafted = draft(context, request, group=group, priority=priority, after=after, not_before=not_before, hold=hold)
        return _put(context, drafted, named=request.name is not None, key=key)

    return submit_once(context, key, put)


def submit_planned(context: CommandContext, plan: RunPlan, cloud: Cloud, label: str, *, group: str, priority: int) -> QueueEntry:
    """Put a run of a group into the queue whose plan was made of an earlier one's; raises what submit() does."""
    return _put(context, _drafted(context, plan, cloud, label, group=group, priority=priority), named=True)


def _put(context: CommandContext, drafted: DraftedEntry, *, named: bool, key: StartKey | None = None) -> QueueEntry:
    entry, plan = drafted.entry, drafted.plan
    cloud = context.cloud(plan.stack)
    own = consent.outgoing(plan.asked_data, plan.data, plan.recipe, plan.values, plan.code)
    among = renting(context.places.root) if entry.auto else []
    agreed = _agreed(context, among) if among else plan.settings.upload_consent
    consent.ask(context.ui, plan.stack, cloud, agreed, own, yes=plan.yes, by_bucket=plan.settings.has_bucket, among=among)
    content = pack(context, plan, entry.label)
    entry = _added(QueueRows(context.ledger().database), entry, content, key, named=named)
    record_act(context, "submit", entry.run, stack=entry.asked, recipe=entry.recipe, estimate=entry.estimate, group=entry.group)
    if entry.approval == "needed":
        ask_for_approval(context, entry)
    return entry


def _agreed(context: CommandContext, stacks: Sequence[str]) -> str:
    """Return the consent that holds for each of these stacks; those where nothing may leave this machine are not chosen."""
    try:
        said = {reader.partly(context.places.root, stack, "upload_consent").upload_consent for stack in stacks} - {"never"}
    except UserError:  # a stack that nobody can read today may be the cheapest when it is mended
        return "ask"
    return "always" if said == {"always"} else "ask"


def _added(rows: QueueRows, entry: QueueEntry, content: bytes, key: StartKey | None, *, named: bool) -> QueueEntry:
    """Write an entry; where its name is taken by another one it gets the next, unless a person has chosen it."""
    tries, label = 1, entry.label
    while True:
        try:
            rows.add(entry, content, key)
            return entry
        except QuotaReached as reached:
            raise RefusedError(f"{reached}, and so many there are: nothing was submitted", hint="See them: invoke queue") from None
        except NameTaken:
            if named:
                raise RefusedError(
                    f"run {entry.run} is in the queue already, and not over; nothing was submitted",
                    hint=f"Look at it: invoke queue. Take it out: invoke cancel {entry.run}. A run beside it needs another --name.",
                ) from None
        tries += 1
        entry = replace(entry, label=f"{label}-{tries}")
