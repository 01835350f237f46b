"""How several processes train one model, in the words of transformers' trainer."""

from __future__ import annotations

import inspect
import os
from typing import Any

import session
import torch
import transformers
from accelerate.utils import DistributedType
from ranks import LOCAL_RANK
from telemetry import WORLD

ZERO = ("zero2", "zero3")
SHARDED = ("fsdp", *ZERO)
"""Those by which a process holds a part of what one would hold whole."""


def chosen(config: dict[str, Any]) -> str:
    """Return what is done: with one process nothing, else what is asked for."""
    asked = str(config["strategy"])
    if WORLD == 1:
        if config["offload"] != "none":
            raise session.Refused(f"offload {config['offload']} is of {asked} by several GPUs, but one process trains here")
        return "none"
    return "ddp" if asked == "auto" else asked


def said(config: dict[str, Any], how: str) -> str:
    """Return in words how many rows a step takes, and of how many processes."""
    rows, passes = config["per_device_train_batch_size"], session.accumulation(config)
    packs = "packs" if config["packing"] else "pairs" if config["method"] == "dpo" else "rows"
    if WORLD == 1:
        return f"1 process, {rows} x {passes} = {rows * passes} {packs} a step"
    return f"{WORLD} processes by {how}, {rows} x {passes} x {WORLD} = {rows * passes * WORLD} {packs} a step"


def kept(config: dict[str, Any], how: str) -> dict[str, Any]:
    """Return what a checkpoint holds of it: all rows of a step, and whether its parts are whole."""
    passes = session.accumulation(config) * WORLD
    # DeepSpeed cuts the optimizer of a checkpoint into as many files as there are processes.
    parts = {"processes": WORLD} if how in ZERO else {}
    return {"gradient_accumulation_steps": passes, "effective_batch_size": None, "strategy": how if how in SHARDED else "auto"} | parts


def place(how: str, device: str) -> str | int:
    """Return where the base is loaded: what is shared out later must not fill a GPU before."""
    if how in ("fsdp", "zero3"):
        return "cpu"
    return LOCAL_RANK if device == "cuda" else device


def arguments(config: dict[str, Any], how: str, device: str, precision: Any, count: int, output: str) -> Any:
    """Return the trainer's arguments for so many samples."""
    wanted = {
        "output_dir": output, "num_train_epochs": config["num_train_epochs"], "max_steps": config["max_steps"],
        "per_device_train_batch_size": config["per_device_train_batch_size"],
        "gradient_accumulation_steps": session.accumulation(config),
        "learning_rate": config["learning_rate"], "lr_scheduler_type": config["lr_scheduler_type"],
        "warmup_steps": session.warmup(config, count),
        "max_grad_norm": config["max_grad_norm"],
        "weight_decay": config["weight_decay"], "optim": config["optim"], "seed": config["seed"], "data_seed": config["seed"],
        "save_strategy": "steps", "save_steps": config["save_steps"], "save_total_limit": config["save_total_limit"],
        "logging_strategy": "steps", "logging_steps": 1, "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if config["eval_file"] or config["eval_fraction"] else "no", "eval_steps": config["eval_steps"],
        "neftune_noise_alpha": config["neftune_noise_alpha"] or None,
        "report_to": [], "disable_tqdm": True, "remove_unused_columns": False, "use_cpu": device == "cpu",
        "bf16": precision is torch.bfloat16, "dataloader_pin_memory": device == "cuda",
    }  # fmt: skip
    known = inspect.signature(transformers.TrainingArguments).parameters
    if config["gradient_checkpointing"] and config["backend"] == "hf" and how != "fsdp":
        # The name changed in transformers 5; Unsloth brings its own.
        name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
        wanted |= {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    if how == "fsdp":
        # Checkpoints are whole: any number of processes can go on from one.
        shared = {"version": 2, "state_dict_type": "FULL_STATE_DICT", "activation_checkpointing": config["gradient_checkpointing"]}
        wanted |= {"fsdp": True, "fsdp_config": shared}
    if how in ZERO:
        wanted |= {"use_cpu": False, "deepspeed": _deepspeed(config, how)}
        if device == "cpu":
            wanted["accelerator_config"] = {"use_configured_state": _zero_without_gpus()}
    args = transformers.TrainingArguments(**{name: value for name, value in wanted.items() if name in known})
    forget_zero()
    if how == "fsdp" and device == "cpu":
        # accelerate shares out a model on GPUs alone, and says nothing elsewhere; torch does it on CPUs as well.
        args.distributed_state.distributed_type = DistributedType.MULTI_GPU
    return args


def _deepspeed(config: dict[str, Any], how: str) -> dict[str, Any]:
    """Return the settings of DeepSpeed; those that the trainer has as well it fills in itself."""
    stage = {"zero2": 2, "zero3": 3}[how]
    # Checkpoints and result are whole.
    zero: dict[str, Any] = {"stage": stage} | ({"stage3_gather_16bit_weights_on_model_save": True} if stage == 3 else {})
    for what, wish in (("offload_optimizer", ("optimizer", "all")), ("offload_param", ("all",))):
        if config["offload"] in wish:
            zero[what] = {"device": "cpu"}
    return {
        "zero_optimization": zero, "bf16": {"enabled": "auto"}, "gradient_clipping": "auto",
        "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
        # torch's AdamW, on the CPU as well: DeepSpeed's own would be compiled on the pod.
        "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False,
    }  # fmt: skip


def _zero_without_gpus() -> bool:
    """Have accelerate take DeepSpeed's CPU accelerator, which it does not look for."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed.ops
    from accelerate import PartialState

    # Else it compiles a way through shared memory, for minutes; gloo does.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    os.environ |= {"ACCELERATE_TORCH_DEVICE": "cpu", "ACCELERATE_USE_DEEPSPEED": "true"}
    PartialState(cpu=False, backend="gloo")
    return True


def forget_zero() -> None:
    """Have transformers load models whole again: by ZeRO-3 it would share out whatever is loaded, and wait for the other processes."""
    transformers.integrations.unset_hf_deepspeed_config()
