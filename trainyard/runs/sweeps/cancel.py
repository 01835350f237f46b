"""End the rest of a sweep: nothing is begun for it any more, what waits is taken out, what trains saves and ends as any run does."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainyard.errors import StillThere, TrainyardError
from trainyard.ledger.queue import QueueEntry
from trainyard.runs.context import CommandContext
from trainyard.runs.queue.changes import end
from trainyard.runs.sweeps import book
from trainyard.runs.sweeps.book import Sweep
from trainyard.runs.sweeps.standing import StandingTrial, look


@dataclass(slots=True)
class CancelledSweep:
    """What became of the rest of a sweep, by names of runs."""

    sweep: str
    withdrawn: list[str] = field(default_factory=list)
    """They had not begun."""
    cancelled: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be ended, with the reason; the same command tries again."""
    exit_status: int = 0


def cancel_rest(context: CommandContext, sweep: Sweep, *, now: bool) -> CancelledSweep:
    """End all of a sweep that is not over, ``now`` without saving; one trial's trouble keeps no other from it."""
    done = CancelledSweep(str(sweep))
    if not sweep.ended:
        book.note_ended(context.ledger(), sweep, "cancelled")
    tried: set[str] = set()
    while rest := [one for one in look(context, sweep) if not one.is_over and one.trial.label not in tried]:
        for one in rest:
            tried.add(one.trial.label)
            _end(context, done, one, now=now)
        sweep = book.find_sweep(context.ledger(), str(sweep))  # another process may have begun one just before it was told
    return done


def _end(context: CommandContext, done: CancelledSweep, one: StandingTrial, *, now: bool) -> None:
    run = f"{one.trial.user}/{one.trial.label}"
    try:
        context.ui.say(f"cancel     {run}")
        ended = end(context, run, now=now)
        (done.withdrawn if isinstance(ended, QueueEntry) else done.cancelled).append(run)
    except TrainyardError as error:
        context.ui.fail(f"{run}: {error}")
        done.failed[run] = error.message
        worse = done.exit_status == 0 or isinstance(error, StillThere)
        done.exit_status = error.exit_code if worse else done.exit_status
