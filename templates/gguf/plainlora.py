"""An adapter as llama.cpp's converter takes it: one pair of matrices for each linear layer, experts apart, one scale for all.

PEFT holds the experts of a Mixture-of-Experts layer as one pair for all of them (gate and up together), and a scale of its own
for each pair (rsLoRA, rank_pattern, alpha_pattern). llama.cpp reckons alpha / rank with the one alpha of the file and the rank
of the pair, so what differs from that goes into the second matrix.
"""

from __future__ import annotations

import json
import os
from typing import Any

import peft
import safetensors.torch
import torch
import transformers
from models import Refused

PREFIX = "base_model.model."
GATE_UP, DOWN = "gate_up_proj", "down_proj"


def write(adapter: str, base: str, folder: str) -> int:
    """Write it into a folder; return how many numbers it has. Raises Refused for what llama.cpp has no place for."""
    with open(os.path.join(adapter, "adapter_config.json"), encoding="utf-8") as file:
        known = json.load(file)
    if known.get("use_dora"):
        raise Refused("DoRA has no place in an adapter of llama.cpp: take the whole model (--what merged)")
    if known.get("modules_to_save") or known.get("trainable_token_indices"):
        raise Refused("layers that were trained whole have no place in an adapter of llama.cpp: take the whole model (--what merged)")
    weights = peft.load_peft_weights(adapter, device="cpu")
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, layer in _adapted(base, adapter, weights).named_modules():
        if "default" in getattr(layer, "lora_A", {}):
            down, up = (weights[f"{PREFIX}{name}.lora_{letter}.weight"].float() for letter in "AB")
            pairs |= _apart(name.replace(".base_layer", ""), layer, down, up * (_scale(layer) / float(known["lora_alpha"])))
    os.makedirs(folder)
    tensors = {
        f"{PREFIX}{name}.lora_{letter}.weight": matrix.clone()
        for name, pair in pairs.items() for letter, matrix in zip("AB", pair, strict=True)
    }  # fmt: skip
    safetensors.torch.save_file(tensors, os.path.join(folder, "adapter_model.safetensors"))
    with open(os.path.join(folder, "adapter_config.json"), "w", encoding="utf-8") as out:
        json.dump({"base_model_name_or_path": known["base_model_name_or_path"], "lora_alpha": known["lora_alpha"], "r": known["r"]}, out)
    return sum(matrix.numel() for pair in pairs.values() for matrix in pair)


def _adapted(base: str, adapter: str, weights: dict[str, torch.Tensor]) -> Any:
    """Return the base without weights, with layers for the adapter: what PEFT makes of its config is what counts."""
    config = transformers.AutoConfig.from_pretrained(base)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
        adapted = peft.get_peft_model(model, peft.LoraConfig.from_pretrained(adapter))
    own, there = ({name: tensor.shape for name, tensor in found.items()} for found in (peft.get_peft_model_state_dict(adapted), weights))
    if own != there:
        name = min(name for name in {**own, **there} if own.get(name) != there.get(name))
        raise Refused(f"the adapter does not fit its base: {name} is {_shape(there.get(name))} in it, and {_shape(own.get(name))} there")
    return adapted.base_model.model


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))


def _scale(layer: Any) -> float:
    """Return what llama.cpp has to multiply with beside the rank."""
    return float(layer.scaling["default"] * layer.r["default"])


def _apart(name: str, layer: Any, down: torch.Tensor, up: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the pairs of a layer: one, or one for each expert."""
    parameter = getattr(layer, "parameter_name", None)
    if parameter is None:
        return {name: (down, up)}
    if parameter not in (GATE_UP, DOWN) or not name.endswith(".mlp.experts"):
        raise Refused(f"{name}.{parameter} cannot be taken apart into experts: take the whole model (--what merged)")
    rank = layer.r["default"]
    experts = down.shape[0] // rank
    each_down, each_up = down.reshape(experts, rank, -1), up.reshape(up.shape[0], rank, experts)
    found = {}
    for expert in range(experts):
        pair = (each_down[expert], each_up[:, :, expert])
        if parameter == DOWN:
            found[f"{name}.{expert}.{DOWN}"] = pair
            continue
        half = pair[1].shape[0] // 2
        found[f"{name}.{expert}.gate_proj"] = (pair[0], pair[1][:half])
        found[f"{name}.{expert}.up_proj"] = (pair[0], pair[1][half:])
    return found
