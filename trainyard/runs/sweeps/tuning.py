"""Optuna behind two questions: what is tried next, and is a trial that trains worth its money.

A study is made anew from the trials' rows for each question (ask and tell), so it has no state of its own that a kill could lose
and any machine that shares the ledger may go on with it. Knows nothing of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from trainyard.errors import UserError
from trainyard.runs.records.progress import Curve
from trainyard.runs.sweeps.objective import Objective
from trainyard.runs.sweeps.sampling import Parameters
from trainyard.runs.sweeps.space import Dimension

if TYPE_CHECKING:
    import optuna

STARTUP = 5
"""Trials that are drawn at random before the sampler has something to learn from, and that have to be over before one is pruned."""


@dataclass(frozen=True, slots=True)
class PastTrial:
    """A trial as the sampler and the pruner see it."""

    parameters: Parameters
    state: Literal["running", "complete", "pruned", "failed"]
    value: float | None
    """What it is judged by; of a pruned one what it had come to."""
    curve: Curve
    """Its objective's figure on the way."""


def require() -> None:
    """Raise UserError, with the command that installs it, where Optuna is missing."""
    _optuna()


def ask(dimensions: Sequence[Dimension], objective: Objective, seed: int, past: Sequence[PastTrial]) -> Parameters:
    """Return what the next trial is tried with: TPE over all earlier ones, of which those that run count as bad: nothing is tried twice."""
    study = _study(dimensions, objective, seed + len(past), past)
    asked = study.ask(_distributions(dimensions))
    return {dimension.name: _text(dimension, asked.params[dimension.name]) for dimension in dimensions}


def is_hopeless(dimensions: Sequence[Dimension], objective: Objective, seed: int, past: Sequence[PastTrial], curve: Curve) -> bool:
    """Tell whether a trial that trains is worse than the median of the others was at its step: Optuna's median pruner."""
    if not curve:
        return False
    step = curve[-1][0]
    # Optuna compares what was told of the very same step; a look at a training that runs finds it at any.
    aligned = [replace(one, curve=_until(one.curve, step)) for one in past if one.state != "running"]
    trial = _study(dimensions, objective, seed, aligned).ask()
    trial.report(objective.better([value for _, value in curve]), step)
    return bool(trial.should_prune())


def _until(curve: Curve, step: int) -> Curve:
    """Return what a trial had come to at a step, as a point at that step; at its end where it was over before."""
    values = [value for at, value in curve if at <= step]
    return ((step, values[-1]),) if values else ()


def _study(dimensions: Sequence[Dimension], objective: Objective, seed: int, past: Sequence[PastTrial]) -> optuna.Study:
    optuna = _optuna()
    study = optuna.create_study(
        direction="maximize" if objective.maximize else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
    )
    distributions = _distributions(dimensions)
    states = optuna.trial.TrialState
    words = {"running": states.RUNNING, "complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}
    for one in past:
        state = states.FAIL if one.state == "complete" and one.value is None else words[one.state]
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=one.value if state is states.COMPLETE else None,
                params={dimension.name: _value(dimension, one.parameters[dimension.name]) for dimension in dimensions},
                distributions=distributions,
                intermediate_values=dict(one.curve),
            )
        )
    return study


def _distributions(dimensions: Sequence[Dimension]) -> dict[str, Any]:
    from optuna import distributions as of

    distributions: dict[str, Any] = {}
    for dimension in dimensions:
        span = dimension.span
        if span is None:
            distributions[dimension.name] = of.CategoricalDistribution(dimension.values)
        elif span.whole:
            distributions[dimension.name] = of.IntDistribution(int(span.low), int(span.high), log=span.log)
        else:
            distributions[dimension.name] = of.FloatDistribution(span.low, span.high, log=span.log)
    return distributions


def _value(dimension: Dimension, text: str) -> str | int | float:
    if dimension.span is None:
        return text
    return int(text) if dimension.span.whole else float(text)


def _text(dimension: Dimension, value: Any) -> str:
    return str(value) if dimension.span is None else dimension.span.text(value)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        elsewhere = "Elsewhere: pipx install --force 'trainyard[sweep]', or the same with pip or uv."
        raise UserError(
            f"--sampler optuna and --prune need the package '{error.name}', which this Python does not have",
            hint=f"In a checkout: .venv/bin/pip install optuna\n{elsewhere}",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
