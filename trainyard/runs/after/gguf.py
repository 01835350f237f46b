"""GGUF of a finished run: the run that writes it, and which runs have one."""

from __future__ import annotations

from pathlib import Path

from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import OF_RUN
from trainyard.recipes.variables import convert_text
from trainyard.runs.after import merge
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunRecord
from trainyard.runs.verbs.past import seen
from trainyard.runs.verbs.train import TrainRequest

RECIPE = "gguf"
MERGED, ADAPTER = "merged", "adapter"
TRAINED = "lora"


def gguf_of(context: CommandContext, reference: str, stack: str | None, what: str, quant: str | None) -> TrainRequest:
    """Return the run that writes what a run has left as GGUF, on the stack that it ran on unless another is named.

    Raises UserError for a run that is nowhere, and for one that leaves nothing that could be written so.
    """
    with seen(context, reference, stack) as attempt:
        record, key = attempt.record, str(attempt.key)
    if what not in (MERGED, ADAPTER):
        raise UserError(f"--what {what}: it is {MERGED} (the whole model) or {ADAPTER} (the adapter alone)")
    if record.recipe not in (TRAINED, merge.RECIPE):
        why = "it is GGUF already" if record.recipe == RECIPE else f"only what recipes {TRAINED} and {merge.RECIPE} leave can be GGUF"
        raise UserError(f"{key} is a run of recipe {record.recipe}: {why}")
    if what == ADAPTER and (unfit := _no_adapter(record)):
        raise UserError(f"{key} {unfit}", hint=f"The whole model as GGUF: invoke gguf {key} --stack {record.environment}")
    base = str(record.values["base_model"])
    name = f"{base.rstrip('/').rpartition('/')[2]}-{record.label}"
    sets = (f"base_model={base}", f"what={what}", f"model_name={name}", *([f"quant={quant}"] if quant else []))
    return TrainRequest(stack or record.environment, RECIPE, f"{OF_RUN}{key}", sets=sets)


def refuse_quant(option: str, quant: str, root: Path) -> None:
    """Raise UserError for a quantization that the recipe does not know."""
    [variable] = [each for each in load_recipe(root, RECIPE).variables if each.name == "quant"]
    try:
        convert_text(variable, quant)
    except ValueError as error:
        raise UserError(f"{option} {quant}: {error}") from None


def _no_adapter(record: RunRecord) -> str | None:
    """Return why what a run leaves cannot be an adapter of llama.cpp's, None where it can."""
    values = record.values
    if record.recipe == merge.RECIPE or merge.leaves_whole(values):
        return "leaves a whole model, no adapter"
    if values.get("use_dora"):
        return "is DoRA, which llama.cpp's adapters have no place for"
    if values.get("modules_to_save"):
        return "has trained layers whole (modules_to_save), which llama.cpp's adapters have no place for"
    return None
