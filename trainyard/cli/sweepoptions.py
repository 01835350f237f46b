"""The options by which `train` and `submit` make a sweep, and what they, `cancel` and `sweep` do with one. Parsing only."""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.cli.common import help_of, show_json
from trainyard.errors import Detached, TrainyardError, UserError

if TYPE_CHECKING:
    from trainyard.runs.context import CommandContext
    from trainyard.runs.sweeps.book import Sweep
    from trainyard.runs.sweeps.planned import SweepRequest
    from trainyard.runs.verbs.train import TrainRequest

OF_A_SWEEP = help_of(
    sweep="vary something, a run for each value: lora_rank=8,16,32 or lr=1e-5..1e-3:log:5 (may be repeated)",
    sampler="how a sweep's trials are chosen: grid, random, optuna (default: grid, random where --trials is said)",
    trials="how many trials a sweep draws",
    seed="what a sweep's trials are drawn by (default: 0)",
    objective="figure of metrics.jsonl that trials are judged by: NAME, NAME:best, NAME:max (default: loss)",
    prune="end a trial whose figure is worse than the median of the others was at its step",
    parallel="trials of a sweep at once, within what the queue lets be (default: all that it lets; optuna: 1)",
    max_trials="trials that a sweep may have at most (default: 100)",
)
"""Options of a sweep, with their help."""
_PATIENCE = 1.0
"""Seconds that a look at the ledger waits for another process's write while a pod is to be ended."""
_WHOLE = re.compile(r"-?[0-9]{1,9}")


def sweep_of(
    train: TrainRequest, sweep: Any, sampler: str | None, trials: Any, seed: Any, objective: str | None, parallel: Any, max_trials: Any,
    *, prune: bool, key: str | None = None,
) -> SweepRequest | None:  # fmt: skip
    """Return the sweep that a command asks for, None for a single run; raises UserError for a sweep's option without one."""
    options = {
        "sampler": sampler, "trials": trials, "seed": seed, "objective": objective, "prune": prune or None, "parallel": parallel,
        "max-trials": max_trials,
    }  # fmt: skip
    if not sweep:
        alone = next((name for name, value in options.items() if value is not None), None)
        if alone is not None:
            raise UserError(f"--{alone} belongs to a sweep", hint="Say what is varied: --sweep NAME=VALUES")
        return None
    if key is not None:
        raise UserError("--key is for one run", hint="The same command, program and data are the same sweep without one.")
    from trainyard.runs.sweeps.planned import SweepRequest
    from trainyard.runs.sweeps.sampling import MOST_TRIALS

    return SweepRequest(
        train=train, sweep=tuple(sweep), sampler=sampler, trials=_whole("trials", trials), seed=_whole("seed", seed) or 0,
        objective=objective or "loss", prune=prune, parallel=_whole("parallel", parallel),
        max_trials=MOST_TRIALS if max_trials is None else _whole("max-trials", max_trials) or 0,
    )  # fmt: skip


def sweep_here(work: CommandContext, request: SweepRequest, as_json: bool) -> int:
    """Begin a sweep, work on its trials until they are over, and show what came of it; returns the exit code."""
    if request.train.detach:
        raise UserError("a sweep is not left by --detach", hint="invoke submit takes the same options; invoke worker begins its trials.")
    from trainyard.runs.signals import how, leaving
    from trainyard.runs.sweeps.begin import begin
    from trainyard.runs.sweeps.standing import report
    from trainyard.runs.sweeps.work import work_until_over

    sweep: Sweep | None = None
    try:
        with leaving():
            sweep = begin(work, request)
        status = work_until_over(work, sweep)
    except KeyboardInterrupt as left:
        live = [trial.run for trial in report(work, sweep).trials if trial.live] if sweep is not None else []
        if sweep is None or not live:
            raise
        raise Detached(
            f"{how(left)}: {len(live)} trial{'s' if len(live) > 1 else ''} of {sweep} may go on and cost money: {', '.join(live)}",
            hint=f"Go on with the sweep: the same command, or invoke worker\nEnd it: invoke cancel {sweep}",
        ) from None
    shown = show_sweep(work, str(sweep), as_json)
    return status or shown


def sweep_submitted(work: CommandContext, request: SweepRequest, *, hold: bool, dry_run: bool, as_json: bool) -> int:
    """Put the trials of a sweep that may begin into the queue, or only say what they would be."""
    from trainyard.runs.sweeps.begin import begin, foresee_sweep

    if hold:
        raise UserError("--hold holds one run", hint="Trials can be held one by one when they are queued: invoke queue.hold RUN")
    if dry_run:
        trials = foresee_sweep(work, request)
        if as_json:
            show_json(trials)
        return 0
    sweep = begin(work, request)
    if as_json:
        return show_sweep(work, str(sweep), as_json) and 0
    if sweep.ended:
        work.ui.say(f"look       invoke sweep {sweep}")
        return 0
    work.ui.say(f"queued     {len(sweep.trials)} of {sweep.definition.trials} trials of {sweep}")
    work.ui.say(f"look       invoke sweep {sweep}; invoke queue\nbegin      invoke worker")
    return 0


def sweep_called(work: CommandContext, reference: str) -> Sweep | None:
    """Return the sweep of a name; None where it is none, or the ledger does not tell: a run is ended anyway."""
    from trainyard.runs.sweeps.book import all_sweeps

    user, _, name = reference.strip("/").rpartition("/")
    with contextlib.suppress(TrainyardError):
        known = all_sweeps(work.ledger(_PATIENCE))
        return next((sweep for sweep in known if sweep.name == name and user in ("", sweep.user)), None)
    return None


def cancel_sweep(work: CommandContext, sweep: Sweep, *, now: bool, as_json: bool) -> int:
    """End all of a sweep that is not over."""
    from trainyard.runs.sweeps.cancel import cancel_rest

    done = cancel_rest(work, sweep, now=now)
    if as_json:
        show_json(asdict(done))
    else:
        work.ui.say(f"cancelled  {sweep}: {len(done.withdrawn)} trials had not begun, {len(done.cancelled)} were ended")
    return done.exit_status


def show_sweep(work: CommandContext, name: str, as_json: bool, png: str | None = None) -> int:
    """Show a sweep; return what its trials give as an exit code."""
    from trainyard.runs.sweeps.book import find_sweep
    from trainyard.runs.sweeps.report import draw, lines
    from trainyard.runs.sweeps.standing import report
    from trainyard.runs.verbs.sharing import pull_shared

    ledger = work.ledger()
    pull_shared(work, ledger)
    seen = report(work, find_sweep(ledger, name))
    if png:
        draw(seen, Path(png))
        work.ui.say(f"the curves are in {png}")
    if as_json:
        show_json(asdict(seen))
    elif not png:
        work.ui.say("\n".join(lines(seen, work.ui.console.width)))
    return seen.exit_status


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not _WHOLE.fullmatch(str(value)):
        raise UserError(f"--{name} {value}: it is no whole number")
    return int(value)
