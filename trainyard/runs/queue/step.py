"""What is done for one entry that has its turn: its run is begun, or gone on with as far as to a training that runs.

Whatever has become of an earlier worker, the run's own record, or its bucket, tells how it stands: nothing is begun twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from trainyard.clouds.protocol import Cloud
from trainyard.errors import (
    Busy,
    EngineError,
    LimitReached,
    RefusedError,
    StoreError,
    TrainyardError,
    UserError,
)
from trainyard.faults import readable
from trainyard.ledger.queue import QueueEntry
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.runs.queue import submission
from trainyard.runs.queue.claims import Withdrawn, host_of, is_here
from trainyard.runs.records.attempts import Overtaken, at_home
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import RunSummary, verdict
from trainyard.runs.verbs import rerun
from trainyard.runs.verbs.auto import RunNeeds, StackOffers, cheapest
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.runs.verbs.known import KnownRun, had_no_pod, known_run
from trainyard.runs.verbs.past import SeenAttempt
from trainyard.runs.verbs.prepare import PricedRun
from trainyard.runs.verbs.takeup import folder_of, left_to_its_pod
from trainyard.runs.verbs.through import go_on
from trainyard.runs.verbs.train import device_of
from trainyard.settings.approval import approval_needed, approval_rules
from trainyard.settings.table import StackSettings

_NO_POD = "no pod was to be had"
_DEARER = 1.1
"""An approval holds for so many times the dollars that it was given for: prices of offers change every minute."""
StepState = Literal["training", "over", "elsewhere", "put back", "held", "to approve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStep:
    """What came of it. ``elsewhere``: somebody else has it; ``put back``: to be tried again; ``held``: no waiting mends it.

    ``to approve``: a rule asks for a person's word on it as it is now.
    """

    state: StepState
    says: str = ""
    """How it ended; why it was put back or is held."""
    folder: RunFolder | None = None
    error: str | None = None
    attempt: int | None = None
    """The least number of an attempt that counts from now on."""
    most: float | None = None
    """Dollars that it costs at most now, where a person has to approve them."""
    gpus: str = ""
    """What its stack asks for now."""


@dataclass(frozen=True, slots=True)
class StepHands:
    """What a worker lets a step do with the entry that it has in its hands."""

    confirm: Callable[[], None]
    """Raises Overtaken where it has it no more."""
    move: Callable[[str], str | None]
    """Let it begin on another stack; return why that has no room for it. Raises Overtaken likewise."""


class ApprovalNeeded(RefusedError):
    """A rule of the stack asks for a person's word on a run that has none, or not for what it is now."""

    def __init__(self, why: str, most: float, gpus: str) -> None:
        super().__init__(why)
        self.most, self.gpus = most, gpus


def advance(context: CommandContext, entry: QueueEntry, before: QueueEntry, content: bytes | None, hands: StepHands) -> QueueStep:
    """Begin the run of an entry, or go on with it, and return what came of it; ``before``: the entry as its last worker left it.

    Raises TrainyardError where a run that has begun could not be gone on with.
    """
    try:
        known = _known(context, entry)
    except TrainyardError as error:
        if before.state == "queued":
            return QueueStep(state="put back", says=error.message)
        raise
    if known is None and before.state == "begun" and not is_here(before, context.places.home) and not _has_bucket(context, entry.stack):
        return QueueStep(
            state="elsewhere", says=f"a worker in another checkout, on {host_of(before)}, may have begun it, and no bucket tells"
        )
    if known is None or not _is_of(known, entry):
        if known is not None and known.standing == "at work":
            return QueueStep(state="put back", says=f"another run is called {known.run}, and is not over")
        newest = max(known.key.attempt if known else 0, at_home(context.places, entry.user, entry.label))
        return _begin(context, entry, max(entry.attempt, newest + 1), content, hands)
    if known.standing == "claimed":
        return _begin(context, entry, known.next_attempt, content, hands)
    return _go_on(context, known)


def _known(context: CommandContext, entry: QueueEntry) -> KnownRun | None:
    stores = []
    with contextlib.suppress(UserError, EngineError):  # it has no bucket, or none yet
        stores = [bucket_of(context, entry.stack)]
    try:
        return known_run(context, stores, entry.user, entry.label)
    except StoreError as error:
        if error.code != "NoSuchBucket":
            raise
        return None


def _has_bucket(context: CommandContext, stack: str) -> bool:
    try:
        bucket_of(context, stack)
    except (UserError, EngineError):
        return False
    return True


def _is_of(known: KnownRun, entry: QueueEntry) -> bool:
    return known.key.attempt >= entry.attempt and (known.record is None or known.record.entry == entry.id)


def _begin(context: CommandContext, entry: QueueEntry, attempt: int, content: bytes | None, hands: StepHands) -> QueueStep:
    if content is None:
        return QueueStep(state="held", says="what was submitted is not in the ledger any more: submit it again")
    if entry.auto:
        return _begin_where_cheapest(context, entry, attempt, content, hands)
    return _begin_here(context, entry, attempt, content, hands, None)


def _begin_where_cheapest(context: CommandContext, entry: QueueEntry, attempt: int, content: bytes, hands: StepHands) -> QueueStep:
    """Begin it on the cheapest stack that can have it now, and on the next one where that cannot after all."""
    try:
        stacks = _choices(context, entry, content)
    except (UserError, RefusedError) as error:
        return QueueStep(state="held", says=str(error))
    except Exception as error:
        return QueueStep(state="put back", says=readable(error, lambda: context.places.logs).message)
    failed: list[QueueStep] = []
    for one in stacks:
        try:
            full = hands.move(one.stack)
        except Overtaken as error:
            return QueueStep(state="elsewhere", says=error.message)
        if full is not None:
            failed.append(QueueStep(state="put back", says=full))
            continue
        context.ui.say(f"auto       {entry.run} begins on {one}")
        step = _begin_here(context, replace(entry, stack=one.stack), attempt, content, hands, tuple(each.offer.id for each in one.offers))
        if step.state not in ("put back", "held"):
            return step
        attempt = step.attempt or attempt
        failed.append(replace(step, says=f"{one.stack}: {step.says}"))
        context.ui.warn(f"{entry.run} cannot begin on {one.stack}: {step.says}")
    states = {step.state for step in failed}
    says = "; ".join(dict.fromkeys(step.says for step in failed))
    return QueueStep(state="put back" if "put back" in states else "held", says=says, attempt=attempt)


def _choices(context: CommandContext, entry: QueueEntry, content: bytes) -> list[StackOffers]:
    with submission.opened(content) as submitted:
        record = submitted.load()
        recipe = rerun.recipe_of(context, SeenAttempt(record, submitted, None))

        def values(settings: StackSettings, cloud: Cloud) -> Values:
            return {**record.values, "device": device_of(settings, cloud)} if "device" in record.values else record.values

        return cheapest(context, RunNeeds(recipe, values, record.hours, record.data.bytes))


def _begin_here(
    context: CommandContext, entry: QueueEntry, attempt: int, content: bytes, hands: StepHands, offers: tuple[str, ...] | None
) -> QueueStep:  # fmt: skip
    try:
        folder = _prepared(context, entry, attempt, content, hands.confirm, offers)
    except (Overtaken, Busy) as error:
        return QueueStep(state="elsewhere", says=error.message)
    except ApprovalNeeded as needed:
        return QueueStep(state="to approve", says=needed.message, most=needed.most, gpus=needed.gpus)
    except LimitReached as error:
        return QueueStep(state="put back" if error.ever else "held", says=error.message)
    except (UserError, RefusedError) as error:
        return QueueStep(state="held", says=str(error))
    except Exception as error:  # one run's trouble, or a fault of ours with it, keeps no other from its turn
        return QueueStep(state="put back", says=readable(error, lambda: context.places.logs).message)
    try:
        hands.confirm()  # from now on `invoke cancel` finds the run itself
    except Withdrawn:
        folder.cancel(now=True)
    except TrainyardError:
        pass  # it was the ledger's word before that counted
    return _left(left_to_its_pod(context, folder), context)


def _prepared(
    context: CommandContext, entry: QueueEntry, attempt: int, content: bytes, confirm: Callable[[], None], offers: tuple[str, ...] | None
) -> RunFolder:  # fmt: skip
    with submission.opened(content) as submitted:
        base = SeenAttempt(submitted.load(), submitted, None)
        asked = rerun.SubmittedRun(entry.id, entry.user, attempt, confirm, lambda run: _judge(entry, run), offers)
        request = rerun.RerunRequest(entry.run, entry.stack, name=entry.label, yes=True, submitted=asked)
        with base.bundle(context) as bundle:
            return rerun.prepare_from(context, request, base, bundle)


def _judge(entry: QueueEntry, run: PricedRun) -> None:
    """Apply the stack's rules to a run as it is now; raises ApprovalNeeded. What is approved stays so while it is much the same."""
    settings, most = run.plan.settings, run.estimate.most
    gpus = ", ".join(settings.gpu)
    why = approval_needed(approval_rules(settings.approve), entry.user, settings.gpu, most)
    cheap = entry.estimate is None or most <= entry.estimate * _DEARER
    if why is not None and not (entry.approval == "approved" and gpus == entry.gpus and cheap):
        raise ApprovalNeeded(why, most, gpus)


def _go_on(context: CommandContext, known: KnownRun) -> QueueStep:
    try:
        if known.standing == "over" and known.folder is not None and known.outcome == "open":
            following = go_on(context, known.folder)
            if following is not None:
                return _left(left_to_its_pod(context, following), context)
        folder = folder_of(context, known)
        if folder is not None:
            return _left(left_to_its_pod(context, folder), context)
    except Busy as busy:
        return QueueStep(state="elsewhere", says=busy.message)
    if known.standing == "over" and known.record is not None and had_no_pod(known.record):  # who began it was killed before it said so
        return QueueStep(state="put back", says=known.record.error or _NO_POD, attempt=known.key.attempt + 1)
    if known.standing == "over":
        return QueueStep(state="over", says=known.says, error=known.record.error if known.record else None)
    return QueueStep(state="elsewhere", says=known.says)


def _left(summary: RunSummary, context: CommandContext) -> QueueStep:
    """Return what came of a run that was left to its pod, or has ended; one that no pod was to be had for has its turn again."""
    folder = context.folder(f"{summary.user}/{summary.label}/{summary.attempt}")
    if summary.ended_at is None:
        return QueueStep(state="training", folder=folder)
    record = folder.load()
    if had_no_pod(record):
        return QueueStep(state="put back", says=summary.error or _NO_POD, attempt=record.attempt + 1)
    word = verdict(success=summary.success, cancelled=summary.cancelled, stopped=summary.stopped)
    return QueueStep(state="over", says=word, error=summary.error, folder=folder)
