"""Begin a sweep, or go on with it: the same command, program and data are the same sweep, on whichever machine and however often."""

from __future__ import annotations

from dataclasses import replace

from trainyard.errors import UserError
from trainyard.pod.files import printable
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import consent
from trainyard.runs.records.identity import check_label
from trainyard.runs.sweeps import book
from trainyard.runs.sweeps.book import Sweep
from trainyard.runs.sweeps.planned import PlannedSweep, SweepRequest, all_parameters, plan_sweep
from trainyard.runs.sweeps.sampling import Parameters, combinations
from trainyard.runs.sweeps.work import advance, from_request
from trainyard.settings.user import user_name

_DIGITS = 8


def begin(context: CommandContext, request: SweepRequest) -> Sweep:
    """Judge and price the whole sweep, and submit those of its trials that may begin; one that is known is gone on with.

    Raises UserError, RefusedError or NoCapacity before anything is made.
    """
    planned = plan_sweep(context, request)
    _say(context, planned)
    sweep = _named(context, request, planned)
    known = book.sweep_of(context.ledger(), str(sweep))
    if known is None:
        _refuse_runs_of_its_names(context, sweep)
        plan = planned.first.plan
        own = consent.outgoing(plan.asked_data, plan.data, plan.recipe, plan.values, plan.code)
        cloud = context.cloud(plan.stack)
        consent.ask(context.ui, plan.stack, cloud, plan.settings.upload_consent, own, yes=plan.yes, by_bucket=plan.settings.has_bucket)
    elif known.definition.digest != planned.definition.digest:
        raise UserError(f"there is a sweep {known}, and it is another one", hint="Give this one another --name.")
    elif known.ended:
        context.ui.say(f"sweep      {known} is over: this command, program and data were its own; to run it again: --name NAME")
        return known
    else:
        context.ui.say(f"sweep      {known} goes on: {len(known.trials)} of its trials were submitted before")
        sweep = replace(known, definition=replace(known.definition, parallel=planned.definition.parallel))
    return advance(context, sweep, from_request(context, planned.train, request))


def foresee_sweep(context: CommandContext, request: SweepRequest) -> list[Parameters]:
    """Say what a sweep would be and cost; return what its trials would be tried with, as far as that is known. Raises what begin() does."""
    planned = plan_sweep(context, request)
    _say(context, planned)
    known = all_parameters(planned.definition)
    for number, parameters in enumerate(known, 1):
        context.ui.say(f"trial {number:<4} {', '.join(f'{name}={printable(value)}' for name, value in parameters.items())}")
    return known


def _named(context: CommandContext, request: SweepRequest, planned: PlannedSweep) -> Sweep:
    definition, train = planned.definition, request.train
    user = train.user or user_name(context.env, context.settings(train.stack).user)
    name = train.name or f"sweep-{definition.digest[:_DIGITS]}"
    check_label(f"{name}-{definition.trials}", user, definition.stack)
    return Sweep(user=user, name=name, definition=definition, begun=0.0, machine="", trials=(), ended=False)


def _refuse_runs_of_its_names(context: CommandContext, sweep: Sweep) -> None:
    names = [(sweep.user, sweep.label(number)) for number in range(1, sweep.definition.trials + 1)]
    taken = next(iter(context.ledger().newest_attempts(names)), None)
    if taken is not None:
        raise UserError(f"there is a run {'/'.join(taken)} already, which is no trial of this sweep", hint="Give the sweep another --name.")


def _say(context: CommandContext, planned: PlannedSweep) -> None:
    definition = planned.definition
    count = combinations(definition.dimensions)
    of = f" of {count:,} combinations" if definition.sampler != "grid" and count else ""
    varied = ", ".join(dimension.source.partition(" ")[2] for dimension in definition.dimensions)
    context.ui.say(f"sweep      {definition.trials} trials{of} ({definition.sampler}): {printable(varied)}")
    context.ui.say(f"estimate   all trials together: at most ${planned.most:.2f}")
    if definition.budget is not None:
        share = definition.budget / definition.trials
        context.ui.say(f"budget     ${definition.budget:.2f} of the sweep: each trial is stopped and saved when it has used ${share:.2f}")
