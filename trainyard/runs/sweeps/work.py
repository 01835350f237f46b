"""Bring a sweep on: write down what its trials have come to, prune, begin the next ones. Whoever does it, however often, killed or not.

A trial is written down before it is submitted, and submitted under its own name: what a kill has cut in two is made whole by the
next call, and nothing is begun twice.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from trainyard.clock import REAL, Clock
from trainyard.errors import RefusedError, UserError
from trainyard.faults import readable
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.pod.files import printable
from trainyard.runs.context import CommandContext
from trainyard.runs.life.joblink import link_of
from trainyard.runs.queue.submit import submit, submit_planned
from trainyard.runs.queue.worker import GroupHook, work
from trainyard.runs.records.notes import note
from trainyard.runs.records.progress import Curve
from trainyard.runs.records.record import RunFolder, is_driven
from trainyard.runs.sweeps import book, tuning
from trainyard.runs.sweeps.book import Pruned, Sweep, SweepTrial
from trainyard.runs.sweeps.objective import read_objective
from trainyard.runs.sweeps.planned import SweepRequest, all_parameters, trial_request
from trainyard.runs.sweeps.space import filled, fillings
from trainyard.runs.sweeps.standing import judged, look
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.past import seen
from trainyard.runs.verbs.rerun import RerunRequest, planned_from
from trainyard.runs.verbs.train import TrainRequest

Submit = Callable[[Sweep, SweepTrial], bool]
"""Put a trial's run into the queue; False where that cannot be done yet."""
_TAIL = 4_000_000
"""Bytes of a pod's metrics that are read to judge a trial."""


def advance(context: CommandContext, sweep: Sweep, submit_trial: Submit) -> Sweep:
    """Write down what trials have come to and submit those that may begin; return the sweep as it is then.

    A trial that cannot be submitted, as its values go together with nothing, is written down as refused. Raises what the ledger
    raises, and what passes: a store or a cloud that does not answer.
    """
    ledger = context.ledger()
    if (now := book.sweep_of(ledger, str(sweep))) is not None:  # others may have begun trials of it meanwhile
        sweep = replace(now, definition=replace(now.definition, parallel=sweep.definition.parallel))
    definition = sweep.definition
    objective, standing = read_objective(definition.objective), look(context, sweep)
    for one in standing:
        if one.is_over and one.curve and not one.trial.curve:
            book.note_figures(ledger, one.trial, one.curve)
    if sweep.ended:
        return sweep
    for one in standing:
        if not one.is_known and not one.is_over:
            _submitted(context, sweep, one.trial, submit_trial)
    past, running = [one.past(objective) for one in standing], sum(not one.is_over for one in standing)
    known = all_parameters(definition)
    for number in range(len(standing) + 1, definition.trials + 1):
        if definition.parallel is not None and running >= definition.parallel:
            break
        parameters = known[number - 1] if known else tuning.ask(definition.dimensions, objective, definition.seed, past)
        trial = book.add_trial(ledger, sweep, number, parameters)
        if not _submitted(context, sweep, trial, submit_trial):
            break
        past.append(tuning.PastTrial(trial.parameters, "running", None, ()))
        running += 1
    if not running and len(standing) == definition.trials:
        book.note_ended(ledger, sweep, "over")
    return book.find_sweep(ledger, str(sweep))


def _advance_all(said: dict[str, str], context: CommandContext, group: str | None) -> None:
    """Bring each sweep on that is not over, or that of a group, as far as this machine can; one's trouble keeps no other from it.

    ``said``: what keeps each from it, so that a worker says it once.
    """
    for sweep in book.all_sweeps(context.ledger()):
        if not sweep.ended and group in (None, str(sweep)):
            try:
                advance(context, sweep, from_earlier(context))
                said.pop(str(sweep), None)
            except Exception as error:  # a fault of ours in one sweep stops nobody else's runs
                known = readable(error, lambda: context.places.logs).message
                if said.get(str(sweep)) != known:
                    context.ui.warn(f"sweep {sweep} does not go on for now: {known}")
                said[str(sweep)] = known


def hook() -> GroupHook:
    """Return what a worker asks about the runs of sweeps: is one hopeless, what comes when one is over, and what was left standing."""
    return GroupHook(live=_prune, ended=_next, look=partial(_advance_all, {}))


def work_until_over(context: CommandContext, sweep: Sweep, clock: Clock = REAL) -> int:
    """Work on the queue, on this sweep's trials alone, until nothing of it goes on without a person; return the worker's exit code."""
    status = 0
    while not sweep.ended:
        report = work(context, until="empty", group=str(sweep), hook=hook(), clock=clock)
        status = status or (report.exit_status if report.troubled else 0)  # a trial that failed fails nothing else
        before, sweep = len(sweep.trials), advance(context, sweep, from_earlier(context))
        if len(sweep.trials) == before:
            break
    return status


def from_request(context: CommandContext, train: TrainRequest, request: SweepRequest) -> Submit:
    """Return how the command that begins a sweep submits its trials: from what a person asked for, and what is here now."""
    quiet = _quiet(context)

    def submit_trial(sweep: Sweep, trial: SweepTrial) -> bool:
        asked = trial_request(train, sweep.definition.dimensions, trial.parameters)
        asked = replace(asked, name=trial.label, user=sweep.user, yes=True)  # consent was asked for all of them
        submit(quiet, asked, group=str(sweep), priority=request.priority, after=request.after, not_before=request.not_before)
        return True

    return submit_trial


def from_earlier(context: CommandContext) -> Submit:
    """Return how any machine submits the next trials: from what an earlier one was made of, so that code and data are the same."""
    quiet = _quiet(context)

    def submit_trial(sweep: Sweep, trial: SweepTrial) -> bool:
        definition = sweep.definition
        base = next((one.rows[-1] for one in look(context, sweep) if one.rows), None)
        if base is None:
            return False  # the first one has not begun: what it is made of is only in the queue
        values = fillings(definition.dimensions, trial.parameters)
        sets = [filled(text, values) for text in definition.sets]
        sets += [f"{dimension.name}={trial.parameters[dimension.name]}" for dimension in definition.dimensions if dimension.is_variable]
        words = [filled(word, values) for word in definition.words] if definition.words else None
        asked = RerunRequest(f"{base.id}/{base.attempt}", None, sets, trial.label, yes=True, words=words)
        with seen(quiet, asked.run, definition.stack) as earlier, earlier.bundle(quiet) as bundle:
            plan, cloud = planned_from(quiet, asked, earlier, bundle)
            record = earlier.record
            plan = replace(plan, user=sweep.user, rerun_of=None, resumes=record.resumes, deliver=record.deliver)
            submit_planned(quiet, plan, cloud, trial.label, group=str(sweep), priority=definition.priority)
        return True

    return submit_trial


def live_figures(context: CommandContext, folder: RunFolder, figure: str) -> Curve:
    """Return what a run has logged of a figure by now: of one that nobody follows as its pod tells it. Raises what its pod raises."""
    record = folder.load()
    if record.reached("started") and not record.reached("trained") and not is_driven(folder):
        pieces: list[bytes] = []
        with link_of(context, record, folder).session() as session:
            session.copy("metrics", pieces.append, last=_TAIL)
        if pieces:
            return judged(b"".join(pieces), figure)
    return judged(folder.metrics.read_bytes(), figure) if folder.metrics.is_file() else ()


def _submitted(context: CommandContext, sweep: Sweep, trial: SweepTrial, submit_trial: Submit) -> bool:
    tried = ", ".join(f"{name}={printable(value)}" for name, value in trial.parameters.items())
    if QueueRows(context.ledger().database).named(trial.label, trial.user):
        return True  # another process was first, and its run may be over by now
    try:
        if not submit_trial(sweep, trial):
            return False
    except (UserError, RefusedError) as error:
        rows = QueueRows(context.ledger().database)
        if rows.named(trial.label, trial.user):
            return True  # another process was first
        context.ui.fail(f"trial {trial.number} of {sweep} ({tried}) is left out: {error}")
        book.note_refused(context.ledger(), trial, error.message)
        return True
    context.ui.say(f"trial      {trial.user}/{trial.label}: {tried}")
    return True


def _next(context: CommandContext, entry: QueueEntry) -> None:
    if entry.group is not None and (sweep := book.sweep_of(context.ledger(), entry.group)) is not None:
        advance(context, sweep, from_earlier(context))


def _prune(context: CommandContext, entry: QueueEntry, folder: RunFolder) -> None:
    """End a trial whose figures are worse than the median of the others: its training saves, and its pod ends as ever."""
    sweep = book.sweep_of(context.ledger(), entry.group) if entry.group else None
    trial = next((one for one in sweep.trials if one.label == entry.label), None) if sweep else None
    if sweep is None or trial is None or not sweep.definition.prune or folder.cancelled:
        return
    definition, objective = sweep.definition, read_objective(sweep.definition.objective)
    past = [one.past(objective) for one in look(context, sweep) if one.trial.number != trial.number]
    curve = live_figures(context, folder, objective.name)
    if not tuning.is_hopeless(definition.dimensions, objective, definition.seed, past, curve):
        return
    step, value = curve[-1]
    book.note_pruned(context.ledger(), trial, Pruned(step=step, value=value))
    folder.cancel(now=False)
    note(context, folder.load(), "cancel", now=False)
    context.ui.say(
        f"pruned     {trial.user}/{trial.label} at step {step}: {objective.name} {value:.4f} is worse than the median of the others"
    )


def _quiet(context: CommandContext) -> CommandContext:
    return CommandContext(context.places, context.env, Ui(stream=io.StringIO()))
