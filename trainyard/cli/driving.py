"""From a request to the run's end, as the verbs that begin runs have it in common: prepare it, or come back to the run of its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trainyard.cli.common import finish, show_json, show_summary
from trainyard.cli.ending import INTERRUPTED

if TYPE_CHECKING:
    from trainyard.ledger.keys import StartKey
    from trainyard.runs.context import CommandContext
    from trainyard.runs.records.record import RunFolder
    from trainyard.runs.records.summary import RunSummary
    from trainyard.runs.verbs.keyed import KeyedRun
    from trainyard.runs.verbs.train import TrainRequest

KEY = "said again within a day, it gives the run that it gave first and begins no other (1 to 255 signs)"
"""Help of --key."""


def prepare_and_drive(work: CommandContext, request: TrainRequest, as_json: bool, key: str | None = None) -> int:
    """Do what ``invoke train`` was asked for; returns the exit code."""
    from trainyard.runs.verbs.auto import begin_training

    start = keyed(work, key, "train", request)
    return _drive(work, as_json, lambda: begin_training(work, request, start, detach=request.detach), detach=request.detach)


def keyed(
    work: CommandContext, key: str | None, verb: str, request: Any, more: Mapping[str, object] | None = None
) -> StartKey | None:  # fmt: skip
    """Return an idempotency key with what it is said for, None where none is said."""
    if key is None:
        return None
    from trainyard.runs.verbs.keyed import start_key

    return start_key(work, key, verb, request, more)


def drive_prepared(
    work: CommandContext, as_json: bool, prepare: Callable[[StartKey | None], RunFolder], *, detach: bool = False,
    start: StartKey | None = None,
) -> int:  # fmt: skip
    """Prepare a run and drive it to its end (or ``detach``); whoever leaves before has rented nothing. Returns the exit code.

    Where its key stands for a run already, that one is come back to instead.
    """
    from trainyard.runs.verbs.beginning import begin_once

    return _drive(work, as_json, lambda: begin_once(work, prepare, start, detach=detach), detach=detach)


def _drive(work: CommandContext, as_json: bool, begin: Callable[[], RunSummary | KeyedRun], *, detach: bool) -> int:
    from trainyard.runs.signals import NothingRented
    from trainyard.runs.verbs.keyed import KeyedRun

    try:
        run = begin()
    except NothingRented as left:
        work.ui.fail(str(left))
        return INTERRUPTED
    if isinstance(run, KeyedRun):
        return _tell_elsewhere(work, as_json, run, detach=detach)
    return _left(work, as_json, run) if detach else finish(work, as_json, lambda: run)


def _tell_elsewhere(work: CommandContext, as_json: bool, known: KeyedRun, *, detach: bool) -> int:
    """Tell how a run stands that is driven from elsewhere; returns the exit code that it deserves."""
    from trainyard.runs.verbs.keyed import exit_status_of, state_line

    assert known.elsewhere is not None
    if as_json:
        show_json(asdict(known.elsewhere))
    else:
        work.ui.say(state_line(known))
    return exit_status_of(known.elsewhere, detach=detach)


def _left(work: CommandContext, as_json: bool, summary: RunSummary) -> int:
    """Tell of a run that was left to its pod; one that is over by now is told as ever."""
    if as_json or summary.ended_at is not None:
        show_summary(work, summary, as_json)
        return summary.exit_status
    from trainyard.runs.life.detaching import lines_of

    for line in lines_of(work.folder(f"{summary.run}/{summary.attempt}").load()):
        work.ui.say(line)
    return 0
