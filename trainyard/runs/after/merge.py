"""A merge: the training-like run that puts the adapter of a finished run into the weights of its base."""

from __future__ import annotations

from trainyard.errors import UserError
from trainyard.recipes.data import OF_RUN
from trainyard.recipes.summaries import Values
from trainyard.runs.context import CommandContext
from trainyard.runs.verbs.past import seen
from trainyard.runs.verbs.train import TrainRequest

RECIPE = "merge"


def merge_of(context: CommandContext, reference: str, stack: str | None) -> TrainRequest:
    """Return the run that merges what a run has left, on the stack that it ran on unless another is named.

    Raises UserError for a run that is nowhere, and for one that leaves no adapter.
    """
    with seen(context, reference, stack) as attempt:
        record, key = attempt.record, str(attempt.key)
    values = record.values
    if record.recipe != "lora":
        raise UserError(f"{key} is a run of recipe {record.recipe}: only what recipe lora leaves can be merged")
    if leaves_whole(values):
        raise UserError(f"{key} leaves a whole model, no adapter: there is nothing to merge", hint=f"Fetch it: invoke download {key} DIR")
    return TrainRequest(stack or record.environment, RECIPE, f"{OF_RUN}{key}", sets=(f"base_model={values['base_model']}",))


def leaves_whole(values: Values) -> bool:
    """Tell whether a training by these values leaves a whole model and no adapter."""
    return values.get("method") == "full" or values.get("output") == "merged"
