"""A run's base, looked up at the Hub before anything is rented for it, and what finished runs tell of its memory."""

from __future__ import annotations

import contextlib
import time

from trainyard.errors import TrainyardError, UserError
from trainyard.recipes import basemodel
from trainyard.recipes.basemodel import MADE
from trainyard.recipes.fit.base import by_name, learn, remember
from trainyard.recipes.fit.hub import TOKENS, HubAnswer, ask
from trainyard.recipes.fit.memory import Method
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.calibration import Calibration
from trainyard.runs.planning.history import measured_runs
from trainyard.settings.table import StackSettings

_KEPT_SECONDS = 300.0
"""So long an answer of the Hub holds: the runs of a sweep ask once."""
_ANSWERS: dict[tuple[str, ...], tuple[float, HubAnswer]] = {}


def look_up(context: CommandContext, values: Values, settings: StackSettings | None = None, *, again: bool = False) -> HubAnswer | None:
    """Ask the Hub for the base of a run, and let all that reckons with it know; None where its base is not of the Hub.

    Raises UserError for a base that is not there, is closed to us, or cannot be trained with these values; where a run goes on
    ``again`` that is a warning. What the Hub does not say is told, and stops nobody. ``settings``: of the stack whose pod will
    download it.
    """
    name = values.get("base_model")
    if not isinstance(name, str) or not name or name in MADE:
        return None
    _learn_memory(context, name, values)
    if basemodel.is_path(name):
        return None
    try:
        return _looked_up(context, name, values, settings)
    except UserError as error:
        if not again:
            raise
        context.ui.warn(f"{error.message}; the run goes on as it was")
        return None


def _looked_up(context: CommandContext, name: str, values: Values, settings: StackSettings | None) -> HubAnswer:
    is_new, answer = _ask(context, name, "model_family" in values)
    if answer.base is None:
        known = by_name(name)
        size = f"its size ({known.parameters / 1e9:.3g} billion) is what its name says" if known.parameters else "nor is its size"
        if is_new:
            context.ui.warn(f"whether {name} is at the Hub is not known: {answer.unknown}; {size}")
        return answer
    remember(answer.base)
    if problem := basemodel.problem(answer.base.config, answer.base.layers, values):
        raise UserError(problem)
    if settings is not None and answer.needs_token and not set(TOKENS) & set(settings.pod_secrets):
        _tell_of_no_token(context, name, "gated" if answer.gated else "private", settings)
    if is_new:
        licence = f", licence {answer.licence}" if answer.licence else ""
        context.ui.say(f"base       {name} at the Hub, revision {answer.revision[:12]}{licence}")
    return answer


def _tell_of_no_token(context: CommandContext, name: str, kind: str, settings: StackSettings) -> None:
    """Refuse a base that the pod cannot download; on a network volume it may lie already, and that is for the pod to see."""
    said = f"{name} is {kind}: this machine may download it, but the pod is given no token"
    if settings.volume or settings.cache != "none":
        context.ui.warn(f"{said}; it trains only if the network volume holds that base already")
        return
    raise UserError(said, hint="Add HF_TOKEN to the stack's pod_secrets: trainyard:pod_secrets: [HF_TOKEN]")


def _ask(context: CommandContext, name: str, pictures: bool) -> tuple[bool, HubAnswer]:
    """Return whether the Hub was asked now, and its answer."""
    now, key = time.monotonic(), (name, str(pictures), *(context.env.get(one, "") for one in ("HF_ENDPOINT", "HF_HUB_OFFLINE", *TOKENS)))
    if key in _ANSWERS and now - _ANSWERS[key][0] < _KEPT_SECONDS:
        return False, _ANSWERS[key][1]
    _ANSWERS[key] = now, ask(name, context.env, pictures=pictures)
    return True, _ANSWERS[key][1]


def _learn_memory(context: CommandContext, name: str, values: Values) -> None:
    with contextlib.suppress(OSError, TrainyardError):  # an estimate without a ledger is one all the same
        kind = Method.of(values).kind
        if factor := Calibration(measured_runs(context.ledger())).memory(name, kind):
            learn(name, kind, factor)
