"""Move stop and end of a living run's lease, where its cloud can change a pod's marks: by an up of the run's own stack."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from trainyard import yamlfile
from trainyard.clock import format_time, parse_time
from trainyard.clouds.marker import LONGEST_LEASE
from trainyard.clouds.protocol import Offer
from trainyard.config import PROJECT
from trainyard.errors import Busy, RefusedError, StillThere, UserError
from trainyard.files import write_atomic
from trainyard.ledger.rows import Reservation
from trainyard.runs.context import CommandContext
from trainyard.runs.life.joblink import link_of
from trainyard.runs.life.publish import publish_now
from trainyard.runs.life.trouble import standing
from trainyard.runs.planning.containers import LONGEST_HOURS
from trainyard.runs.planning.estimate import Estimate
from trainyard.runs.planning.limitnotices import tell_limits
from trainyard.runs.planning.limits import check_limits, limits_of, reserve_dollars
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.movedlease import mark_moving, take_over
from trainyard.runs.records.notes import note, note_row
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import cost, resume_command, succeeded
from trainyard.settings import reader
from trainyard.stacks import facade

_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|m)")
_NOTICE = 10.0
"""Seconds in which another controller notices a moved lease."""


@dataclass(frozen=True, slots=True)
class MovedLease:
    """Where a lease stands after it was moved: UTC text; dollars that the whole of it costs at most."""

    run: str
    hours: float
    stop: str
    end: str
    most: float


def extend(context: CommandContext, reference: str, by: str) -> MovedLease:
    """Move stop and end of a run's lease by a time (``2h``, ``30m``), within limits and budget; return where it stands.

    Raises UserError for a time that is none, RefusedError (3) for a run that has ended or has no pod yet, a cloud that cannot,
    a lease that would be too long, limits and budget; whatever was not done then is left as it was.
    """
    added = _hours(by)
    folder = context.folder(reference)
    _refuse_over(folder.load())
    _refuse_cloud(context, folder.load(), by)
    with folder.leasing():
        record = folder.load()
        _refuse_over(record)
        take_over(context, record)  # an extend that was killed may have moved it already
        hours = round(record.hours + added, 6)
        rescue = reader.partly_at(folder.config, record.environment, "rescue_minutes").rescue_minutes
        _refuse_longest(record, hours, rescue)
        most = _within_limits(context, record, added, hours, rescue)
        _reserve(context, record, added, {"estimate": most, "hours": hours})
        publish_now(context, _as_it_may_be(record, added), folder)  # or another machine would take the run for over
        mark_moving(folder, hours, done=False)
        _write_hours(folder, hours)
        with context.ui.stage("up", f"the lease of {record.id}, {hours:g} h instead of {record.hours:g} h"):
            outcome = facade.operate(context.run_stack(record, folder), "up", context.ui.engine_event)
        mark_moving(folder, hours, done=True)
        moved = take_over(context, record)
        if not moved:  # by the cloud's own word: what was reserved for the longer lease is free again
            note(context, record, "extended", estimate=record.per_hour * (record.hours + rescue / 60), hours=record.hours)
        if not outcome.ok or not moved:
            raise outcome.error(f"the lease of {record.id} was not moved (its stop is {record.pod.stop}): ")
    record_act(context, "extend", f"{record.id}/{record.attempt}", hours=record.hours, added=added, estimate=round(most, 4))
    _let_it_be_known(context, record, folder)
    return MovedLease(str(record.id), record.hours, str(record.pod.stop), str(record.pod.end), most)


def _hours(text: str) -> float:
    match = _TIME.fullmatch(text.strip())
    hours = float(match[1]) / (60 if match[2] == "m" else 1) if match else 0.0
    if hours <= 0:
        raise UserError(f"'{text}' is no time to extend a lease by", hint="Write it as in: invoke extend RUN 2h (or 30m, or 1.5h)")
    return hours


def _refuse_over(record: RunRecord) -> None:
    """Refuse a run that has no lease to move."""
    if record.judged or record.reached("trained"):
        hint = _next(record) if record.reached("ended") else f"Finish it: invoke attach {record.id}"
        raise RefusedError(f"the training of {record.id} is over: there is nothing to extend its lease for", hint=hint)
    if not record.reached("up"):
        raise RefusedError(
            f"{record.id} has no pod that is up yet (it is: {record.phase}): its lease cannot be moved",
            hint="Ask again when its training runs; nothing was changed.",
        )
    stop = parse_time(record.pod.stop)
    if stop is not None and stop.timestamp() <= time.time():
        raise RefusedError(
            f"the stop of {record.id} has come ({record.pod.stop}): its training is told to save and end",
            hint=f"Then it goes on from its newest checkpoint: invoke resume {record.id}",
        )


def _next(record: RunRecord) -> str:
    """Return what can be done with a run that has ended: resume refuses one without a checkpoint, and a success as it was."""
    if (resumed := resume_command(record)) is not None:
        return f"Go on with it: {resumed}"
    if succeeded(record):
        return f"It is a success. What can be done with it: invoke show {record.id}"
    return f"No checkpoint of it is known. Run it again: invoke rerun {record.id}/{record.attempt} --stack {record.environment}"


def _refuse_cloud(context: CommandContext, record: RunRecord, by: str) -> None:
    cloud = context.cloud_of(record)
    if record.peers:
        raise RefusedError(
            f"{record.id} trains on {len(record.group)} pods, each under a lease of its own: they are not moved together; nothing was done",
            hint=f"At its stop ({record.pod.stop}) it saves a checkpoint; then: invoke resume {record.id} --hours {max(_hours(by), 1):g}",
        )
    if not cloud.capabilities.change_markers:
        raise RefusedError(
            f"{cloud.name} cannot change the end that a running pod keeps for itself: {standing(record)} stays as it is",
            hint=f"At its stop ({record.pod.stop}) the training saves a checkpoint; then go on from there:\n"
            f"invoke resume {record.id} --hours {max(_hours(by), 1):g} --stack {record.environment}",
        )
    if cloud.capabilities.whole_hours and _hours(by) % 1:
        raise RefusedError(
            f"{cloud.name} sells whole hours: a lease is not moved by {by}", hint=f"invoke extend {record.id} {math.ceil(_hours(by))}h"
        )


def _refuse_longest(record: RunRecord, hours: float, rescue: float) -> None:
    longest = LONGEST_LEASE.total_seconds() / 3600 if record.container is None else LONGEST_HOURS
    if hours + rescue / 60 > longest:
        raise RefusedError(
            f"with {hours:g} h the lease of {record.id} would be longer than {longest / 24:.3g} days; it stays as it is",
            hint=f"At its stop it saves a checkpoint; then: invoke resume {record.id}",
        )


def _within_limits(context: CommandContext, record: RunRecord, added: float, hours: float, rescue: float) -> float:
    """Say what the lease will cost at most and return it; raises RefusedError where a limit or the run's budget forbids it."""
    pod, settings = record.pod, context.settings(record.environment)
    most = record.per_hour * (hours + rescue / 60)
    offer = Offer(pod.offer or "", record.cloud, pod.gpu, pod.gpu_count or 0, record.per_hour)
    context.ui.say(f"estimate   ${pod.price:.2f}/h, {added:g} h more: at most ${most:.2f} in all")
    stop = parse_time(pod.stop)
    used = cost(record) + record.per_hour * max(0.0, (stop.timestamp() if stop else 0.0) - time.time()) / 3600
    if record.budget is not None and used >= record.budget:
        raise RefusedError(
            f"the budget of {record.id} (${record.budget:.2f}) is used up before its stop: a longer lease is of no use",
            hint=f"When it has saved and ended, allow it more: invoke resume {record.id} --budget DOLLARS",
        )
    # The estimate of its lease as it is counts already: only what is added is new.
    limits = limits_of(settings, stack=record.environment, user=record.user)
    for warning in check_limits(Estimate(offer, offer, added, 0.0), limits, context.ledger(), None, run=record.id):
        context.ui.warn(warning)
    if record.budget is not None and most > record.budget:
        context.ui.warn(f"the training is stopped when its budget of ${record.budget:.2f} is used up, whatever its lease")
    return most


def _reserve(context: CommandContext, record: RunRecord, added: float, facts: Mapping[str, float]) -> None:
    """Put the longer lease on the ledger, if the limits still allow it; without limits a broken ledger is only said."""
    settings = context.settings(record.environment)
    limits = limits_of(settings, stack=record.environment, user=record.user)
    if not limits:
        note(context, record, "extended", **facts)
        return
    reserve_dollars(context.ledger(), limits, Reservation(run=record.id, added=record.per_hour * added, kind="extended", data=facts))
    note_row(context, record, facts["estimate"])
    tell_limits(context, record.environment, record.id)


def _as_it_may_be(record: RunRecord, added: float) -> RunRecord:
    """Return the record of a run whose lease was moved."""
    stop, end = (
        format_time(moment + timedelta(hours=added)) if moment else None for moment in map(parse_time, (record.pod.stop, record.pod.end))
    )
    return replace(record, hours=record.hours + added, pod=replace(record.pod, stop=stop, end=end))


def _write_hours(folder: RunFolder, hours: float) -> None:
    document = yamlfile.load_map(folder.config)
    config = document["config"]
    assert isinstance(config, dict)
    # Whatever becomes of this up: it moves a lease, and rents nothing that costs money.
    config |= {f"{PROJECT}:hours": hours, f"{PROJECT}:max_price": 0.0}
    write_atomic(folder.config, yamlfile.dump(document), durable=True)


def _let_it_be_known(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Write the record, or wait until the controller that drives the run has: it asks the cloud, as it was told to."""
    until = time.monotonic() + _NOTICE
    while time.monotonic() < until:
        try:
            with folder.driving():
                fresh = folder.load()
                if take_over(context, fresh):
                    folder.save(fresh)
                link_of(context, fresh, folder).lease_moved()
                return
        except Busy:
            if folder.load().pod.end == record.pod.end:
                return
            time.sleep(0.2)
    raise StillThere(
        f"the lease of {record.id} was moved to {record.pod.end}, and the process that drives the run has not noticed it yet",
        hint=f"It asks the cloud before it stops anything. See: invoke attach {record.id}",
    )
