"""A run's base, looked up at the Hub before anything is rented for it."""

from __future__ import annotations

from trainyard.errors import UserError
from trainyard.recipes import basemodel
from trainyard.recipes.basemodel import TINY
from trainyard.recipes.fit.base import by_name, remember
from trainyard.recipes.fit.hub import TOKENS, HubAnswer, ask
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.settings.table import StackSettings


def look_up(context: CommandContext, values: Values, settings: StackSettings | None = None) -> HubAnswer | None:
    """Ask the Hub for the base of a run, and let all that reckons with it know; None where its base is not of the Hub.

    Raises UserError for a base that is not there, is closed to us, or cannot be trained with these values. What the Hub does not say
    is told, and stops nobody. ``settings``: of the stack whose pod will download it.
    """
    name = values.get("base_model")
    if not isinstance(name, str) or not name or name == TINY or basemodel.is_path(name):
        return None
    answer = ask(name, context.env)
    if answer.base is None:
        known = by_name(name)
        size = f"its size ({known.parameters / 1e9:.3g} billion) is what its name says" if known.parameters else "nor is its size"
        context.ui.warn(f"whether {name} is at the Hub is not known: {answer.unknown}; {size}")
        return answer
    remember(answer.base)
    if problem := basemodel.problem(answer.base.config, answer.base.layers, values):
        raise UserError(problem)
    if settings is not None and answer.needs_token and not set(TOKENS) & set(settings.pod_secrets):
        kind = "gated" if answer.gated else "private"
        raise UserError(
            f"{name} is {kind}: this machine may download it, but the pod is given no token",
            hint="Add HF_TOKEN to the stack's pod_secrets: trainyard:pod_secrets: [HF_TOKEN]",
        )
    licence = f", licence {answer.licence}" if answer.licence else ""
    context.ui.say(f"base       {name} at the Hub, revision {answer.revision[:12]}{licence}")
    return answer
