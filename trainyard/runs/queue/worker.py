"""A worker: it begins what has its turn, goes on with what has begun as far as to a training that runs, and looks again.

It begins and goes on as gitops.sync does: detached, so that no worker is needed while a training runs. Any number of workers may be
at work, and each may be killed at any instant: what it saw to is taken up by the next one, and the attempt's claim in the
bucket and the entry's row decide that no entry becomes two runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from trainyard.clock import REAL, Clock
from trainyard.errors import StillThere, TrainyardError
from trainyard.faults import readable
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.retries import Backoff
from trainyard.runs.context import CommandContext
from trainyard.runs.life.trouble import end_command, standing
from trainyard.runs.queue.changes import ask_for_approval
from trainyard.runs.queue.claims import Withdrawn, beating, is_here, is_seen_to, worker_name
from trainyard.runs.queue.look import limits_of, look
from trainyard.runs.queue.order import QueuePlace, is_later
from trainyard.runs.queue.step import QueueStep, StepHands, advance
from trainyard.runs.queue.table import counted, word_of
from trainyard.runs.records.attempts import Overtaken, at_home
from trainyard.runs.records.record import RunFolder
from trainyard.runs.signals import departing, leaving

Until = Literal["pass", "empty", "stopped"]
EVERY = 15.0
"""Seconds between two looks."""
GRACE = 5.0
"""Seconds in which a worker that is told to go comes to a safe point; what is not there by then the next worker goes on with."""
_AGAIN = Backoff(30.0, 900.0)
"""Between two tries to begin a run that something passing keeps from it."""
_UNSEEN = 60.0
"""Seconds for which a worker of one group waits for another worker to begin what comes before."""
_ELSEWHERE = 600.0
"""Seconds for which what a worker of another machine has begun is left to the workers of that one."""


@dataclass(frozen=True, slots=True)
class GroupHook:
    """What whoever submits groups wants to be asked by the worker; what it raises is said and changes nothing else."""

    live: Callable[[CommandContext, QueueEntry, RunFolder], object]
    """At each look at a run of a group whose training runs; it may cancel it (RunFolder.cancel)."""
    ended: Callable[[CommandContext, QueueEntry], object]
    """When a run of a group is over; it may submit others. Two workers may both ask."""
    look: Callable[[CommandContext, str | None], object]
    """At each look at the queue (of one group, or of all): what a kill or a failure of ``ended`` left standing is to go on."""


@dataclass(slots=True)
class WorkerReport:
    """What a worker has done, by names of runs."""

    begun: list[str] = field(default_factory=list)
    over: dict[str, str] = field(default_factory=dict)
    """Runs that are over, with how they ended."""
    put_back: dict[str, str] = field(default_factory=dict)
    """Runs that could not be begun, with the reason; they are tried again."""
    held: dict[str, str] = field(default_factory=dict)
    """Runs that cannot be begun before a person mends something."""
    troubled: dict[str, str] = field(default_factory=dict)
    """Runs that have begun and could not be gone on with, with the reason; the next look tries again."""
    left: dict[str, str] = field(default_factory=dict)
    """Runs that had not begun at the last look, with how they stand there: queued, held, to approve, broken, blocked."""
    exit_status: int = 0


@dataclass(slots=True)
class _Worker:
    context: CommandContext
    hook: GroupHook | None
    group: str | None
    clock: Clock
    every: float
    name: str = field(init=False)
    report: WorkerReport = field(default_factory=WorkerReport)
    said: set[str] = field(default_factory=set)
    """How what is left stood when that was said last."""
    others: dict[str, float] = field(default_factory=dict)
    """Runs of others whose turn it is, by id, with the time since when nobody has begun them."""
    told: bool = False
    """That nobody begins them was said."""
    current: QueueEntry | None = None
    """What it sees to at the moment."""
    leave_if_asked: Callable[[], object] = lambda: None
    """Raises where somebody wants the worker to go."""

    def __post_init__(self) -> None:
        self.name = worker_name(self.context.places.home)

    def rows(self) -> QueueRows:
        return QueueRows(self.context.ledger().database)

    def places(self) -> list[QueuePlace]:
        """Return the queue as far as it is this worker's.

        One of a single group lets others' runs go first; those that no worker begins keep it waiting for no longer than _UNSEEN.
        """
        now = self.clock.now()
        places = look(self.context, self.rows(), now)
        if self.group is None:
            return places
        others = [place.entry for place in places if place.state == "starts" and place.entry.group != self.group]
        self.others = {entry.id: self.others.get(entry.id, now) for entry in others}
        unseen = [entry for entry in others if now - self.others[entry.id] > _UNSEEN]
        if unseen:
            if not self.told:
                self.context.ui.warn(
                    f"nobody begins {unseen[0].run}, whose turn it is (invoke worker would): {self.group} does not wait for it"
                )
            self.told = True
            places = look(self.context, self.rows(), now, without=[entry.id for entry in unseen])
        return [place for place in places if place.entry.group == self.group]


def work(
    context: CommandContext,
    *,
    until: Until,
    every: float = EVERY,
    hook: GroupHook | None = None,
    group: str | None = None,
    clock: Clock = REAL,
) -> WorkerReport:
    """Work on the queue and return what was done; one run's trouble keeps no other from it.

    ``until``: pass, one look at each entry; empty, nothing is left that goes on without a person; stopped, a signal.
    ``every``: seconds between two looks. ``group``: nothing but its runs is seen to.

    Raises what the ledger raises; later than in the first pass only if it does not go on anyway.
    """
    worker, first = _Worker(context, hook, group, clock, every), True
    departure = departing(GRACE, context.ui.fail, lambda left: _last_words(worker, left))
    with departure as departs, beating(worker.rows, worker.name, clock.now), leaving():
        worker.leave_if_asked = departs.leave_if_asked
        while True:
            try:
                if hook is not None:
                    hook.look(context, group)
                _pass(worker)
                if until == "pass" or (until == "empty" and not _has_more(worker)):
                    return worker.report
                _tell_left(worker)
            except TrainyardError as error:
                if first or until != "stopped":
                    raise
                context.ui.fail(str(error))  # the ledger does not answer: what runs needs nobody meanwhile
            first = False
            worker.leave_if_asked()
            clock.pause(every)


def _last_words(worker: _Worker, left: str) -> str:
    """Return what is left of what a worker was doing when its time was over."""
    entry = worker.current
    if entry is None:
        return f"left ({left})"
    said = f"left ({left}) while {entry.run} was seen to: the next worker goes on with it (invoke worker)"
    with contextlib.suppress(Exception):  # it leaves whatever its record says
        number = at_home(worker.context.places, entry.user, entry.label)
        record = worker.context.folder(f"{entry.run}/{number}").load()
        if not record.reached("ended") and (record.pod.pod_id or record.pods):
            said += f"\nUntil then there may be {standing(record)}; end it now: {end_command(record)}"
    return said


def lines(report: WorkerReport) -> list[str]:
    """Return what a person reads at the end."""
    outcomes = list(report.over.values())
    counts = [f"{len(report.begun)} begun"] if report.begun else []
    counts += [f"{outcomes.count(word)} {word}" for word in dict.fromkeys(outcomes)]
    kept = {"put back": report.put_back, "held": report.held, "in trouble": report.troubled}
    counts += [f"{len(runs)} {word}" for word, runs in kept.items() if runs]
    left = f"; in the queue: {counted(report.left.values())} (invoke queue)" if report.left else ""
    return [f"worker     {', '.join(counts) or 'nothing to do'}{left}"]


def _tell_left(worker: _Worker) -> None:
    """Say what is in the queue and does not begin yet, once for each way of it: a worker that waits is not one that hangs."""
    ways = {*worker.report.left.values()}
    if ways - worker.said:
        worker.context.ui.say(f"waiting    {counted(worker.report.left.values())}: invoke queue says why")
    worker.said = ways


def _pass(worker: _Worker) -> None:
    """Go on with what is due and begin one run, until there is neither."""
    while True:
        for entry in worker.rows().entries(group=worker.group):
            worker.leave_if_asked()
            if _is_due(worker, entry):
                _see_to(worker, entry, lambda _: True)
        places = worker.places()
        worker.report.left = {place.entry.run: word_of(place) for place in places if place.state not in ("starts", "at work")}
        chosen = next((place.entry for place in places if place.state == "starts"), None)
        if chosen is None:
            return
        worker.leave_if_asked()
        limits = limits_of(worker.context, chosen.where)
        _see_to(worker, chosen, lambda begun: limits.forbids(chosen, begun) is None)  # noqa: B023 - called before the next one


def _is_due(worker: _Worker, entry: QueueEntry) -> bool:
    now = worker.clock.now()
    # What still bears this worker's own name could not be let go: the ledger did not answer then.
    if entry.state != "begun" or is_later(entry.due, now) or (entry.worker != worker.name and is_seen_to(entry, now)):
        return False
    return is_here(entry, worker.context.places.home) or now - max(entry.due, entry.begun or 0.0) > _ELSEWHERE


def _has_more(worker: _Worker) -> bool:
    """Tell whether something may still come without a person's doing."""
    return any(place.state in ("at work", "starts", "waits") for place in worker.places())


def _see_to(worker: _Worker, entry: QueueEntry, fits: Callable[[Collection[QueueEntry]], bool]) -> None:
    """Take an entry, do for it what can be done now, and let it go again."""
    rows, ui = worker.rows(), worker.context.ui
    taken = rows.take(entry, worker.name, worker.clock.now(), fits)
    if taken is None:
        return  # another worker, or a person, was first
    if entry.state == "queued":
        ui.say(f"begin      {entry.run} ({entry.recipe} on {entry.where})")
        worker.report.begun.append(entry.run)
    worker.current = taken
    values: dict[str, Any] = {"due": worker.clock.now() + worker.every}
    step: QueueStep | None = None
    try:
        step = advance(
            worker.context,
            taken,
            entry,
            rows.content(entry.id),
            StepHands(lambda: _confirm(worker, taken), lambda stack: _move(worker, taken, stack)),
        )
        values = _values(worker, entry, step)
    except Exception as error:
        known = readable(error, lambda: worker.context.places.logs)
        ui.fail(f"{entry.run}: {known}")
        worker.report.troubled[entry.run] = values["reason"] = known.message
        worse = worker.report.exit_status == 0 or isinstance(known, StillThere)
        worker.report.exit_status = known.exit_code if worse else worker.report.exit_status
    finally:  # a signal, too: whoever comes next need not wait for this process to be gone
        mine = rows.change(taken, **values, beat=None)
        now, worker.current = worker.current or taken, None
    if step is not None and mine:
        _tell(worker, replace(now, **values), step)


def _confirm(worker: _Worker, taken: QueueEntry) -> None:
    """Raise Overtaken where another worker has the entry by now, as this one was away for long, or a person has taken it out."""
    now = worker.rows().entry(taken.id)
    if now is not None and now.state == "over":
        raise Withdrawn(f"{taken.run} is {now.outcome}; nothing was rented")
    if now is None or now.state != "begun" or now.worker != worker.name:
        raise Overtaken(f"another worker has {taken.run} by now; nothing was rented")


def _move(worker: _Worker, taken: QueueEntry, stack: str) -> str | None:
    """Let an entry that begins do so on a stack that was chosen for it; return why not, where too many are at work there."""
    limits, why = limits_of(worker.context, stack), list[str]()

    def fits(begun: Collection[QueueEntry]) -> bool:
        why[:] = filter(None, [limits.forbids(replace(taken, stack=stack), begun)])
        return not why

    moved = worker.rows().move(taken, stack, fits)
    if moved is not None:
        worker.current = moved
    elif not why:
        _confirm(worker, taken)
        why = ["it was changed meanwhile"]
    return why[0] if why else None


def _values(worker: _Worker, entry: QueueEntry, step: QueueStep) -> dict[str, Any]:
    """Return what is written down of an entry after a step."""
    now = worker.clock.now()
    if step.state == "training":
        return {"due": now + worker.every, "reason": None, "tries": 0}
    if step.state == "elsewhere":
        return {"due": now + worker.every, "reason": step.says, "worker": entry.worker or worker.name}
    if step.state == "over":
        return {"state": "over", "ended": now, "outcome": step.says, "reason": step.error}
    values: dict[str, Any] = {"state": "queued", "begun": None, "reason": step.says}
    if step.attempt is not None:
        values["attempt"] = step.attempt
    if step.state == "to approve":
        asked = {"approval": "needed", "approval_why": step.says, "estimate": step.most, "gpus": step.gpus}
        return {**values, **asked, "reason": None, "decided_by": None, "decided": None}
    if step.state == "held":
        return {**values, "held": f"by the worker: {step.says}"}
    return {**values, "tries": entry.tries + 1, "due": now + _AGAIN.pause(entry.tries + 1)}


def _tell(worker: _Worker, entry: QueueEntry, step: QueueStep) -> None:
    ui, report = worker.context.ui, worker.report
    if step.state == "over":
        report.over[entry.run] = step.says
        report.exit_status = report.exit_status or (0 if step.says in ("succeeded", "cancelled") else 1)
        ui.say(f"over       {entry.run}: {step.says}{f' ({step.error.splitlines()[0]})' if step.error else ''}")
    elif step.state in ("put back", "held"):
        (report.held if step.state == "held" else report.put_back)[entry.run] = step.says
        report.begun = [run for run in report.begun if run != entry.run]  # it was tried, and is none yet
        ui.warn(f"{entry.run} is {step.state}: {step.says}")
    elif step.state == "to approve":
        report.begun = [run for run in report.begun if run != entry.run]
        ui.warn(f"{entry.run} waits for approval now: {step.says}\nApprove it: invoke approve {entry.run}")
        ask_for_approval(worker.context, entry)
    if worker.hook is None or entry.group is None:
        return
    try:
        if step.state == "over":
            worker.hook.ended(worker.context, entry)
        elif step.state == "training" and step.folder is not None:
            worker.hook.live(worker.context, entry, step.folder)
    except Exception as error:
        ui.fail(f"{entry.group}: {readable(error, lambda: worker.context.places.logs)}")
