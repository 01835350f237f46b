"""The weights that are trained: the adapter's, or the whole model's. What is read of other folders, and what is kept on the way."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import peft
import ranks
import safetensors.torch
import transformers
from telemetry import IS_MAIN

_FILE = "best.safetensors"


def is_adapted(model: Any) -> bool:
    """Tell whether an adapter is trained, not the model itself."""
    return isinstance(model, peft.PeftModel)


def is_shared_out(model: Any) -> bool:
    """Tell whether each process holds but a part of the weights (FSDP, ZeRO-3)."""
    return any(hasattr(each, "full_tensor") or hasattr(each, "ds_id") for each in model.parameters())


def whole(trainer: Any) -> dict[str, Any]:
    """Return the trained weights, put together of the parts of all processes on rank 0; all must ask."""
    model, state = trainer.accelerator.unwrap_model(trainer.model), trainer.accelerator.get_state_dict(trainer.model_wrapped) or {}
    if is_adapted(model) and IS_MAIN:
        state = peft.get_peft_model_state_dict(model, state_dict=state)
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()} if IS_MAIN else {}


def keep(trainer: Any, folder: str) -> None:
    """Write the trained weights into a folder of their own, whole or not at all; all processes must ask."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    state = whole(trainer) if is_shared_out(model) else None
    if not IS_MAIN:
        return
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    if state is None and is_adapted(model):
        state = {name: value.detach().cpu().contiguous().clone() for name, value in peft.get_peft_model_state_dict(model).items()}
    if state is None:
        safetensors.torch.save_model(model, os.path.join(partial, _FILE))
    else:
        safetensors.torch.save_file(state, os.path.join(partial, _FILE))
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)


def final(trainer: Any, folder: str | None) -> tuple[dict[str, Any] | None, bool]:
    """Return the weights of the result where the model does not hold them itself, and whether they are those kept in a folder."""
    model, path = trainer.accelerator.unwrap_model(trainer.model), os.path.join(folder or "", _FILE)
    is_kept = ranks.is_any(bool(folder) and os.path.exists(path))  # rank 0 has it; the others need not share its folder
    if is_kept and not IS_MAIN:
        return None, True
    if is_shared_out(model):
        return (safetensors.torch.load_file(path) if is_kept else whole(trainer)), is_kept
    if is_kept and is_adapted(model):
        peft.set_peft_model_state_dict(model, safetensors.torch.load_file(path))
    elif is_kept:
        safetensors.torch.load_model(model, path)
    return None, is_kept


def take_checkpoint(model: Any, checkpoint: str) -> None:
    """Give a model the weights of a checkpoint of the trainer."""
    if is_adapted(model):
        peft.set_peft_model_state_dict(model, peft.load_peft_weights(checkpoint, device="cpu"))
    else:
        _take_whole(model, checkpoint)


def begin_with(model: Any, folder: str, config: dict[str, Any], base: str | None) -> str | None:
    """Begin with the adapter of a finished run; return why it cannot be taken, None when it was.

    ``base`` is the sha256 of a base that was made on the spot.
    """
    begun = f"init_from {config['init_from']}"
    try:
        with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as file:
            rank = json.load(file)["r"]
        weights = peft.load_peft_weights(folder, device="cpu")
    except (OSError, ValueError, KeyError) as error:
        return f"{begun}: its adapter cannot be read in {folder}: {error}"
    if os.path.exists(os.path.join(folder, "result.json")):
        with open(os.path.join(folder, "result.json"), encoding="utf-8") as file:
            known = json.load(file).get("base_sha256")
        if known and known != base:
            return f"{begun}: its tiny base was made from other data or another seed"
    own = peft.get_peft_model_state_dict(model)
    problem = next((name for name in sorted({*own, *weights}) if name not in own or name not in weights), None)
    problem = problem or next((name for name in own if own[name].shape != weights[name].shape), None)
    if problem or rank != config["lora_rank"]:
        return f"{begun}: its adapter (rank {rank}) does not fit this one (rank {config['lora_rank']}): {problem}"
    peft.set_peft_model_state_dict(model, weights)
    print(f"train: starting from the adapter of {config['init_from']}", flush=True)
    return None


def _take_whole(model: Any, folder: str) -> None:
    """Read by transformers itself: files may name weights otherwise than its modules do."""
    found = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=next(model.parameters()).dtype)
    model.load_state_dict(found.state_dict())
