"""The peer of bench.lora: TRL's SFTTrainer or DPOTrainer on the tokens, base and settings of a run of recipe lora. bytrl.py FOLDER STEPS"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.table import InMemoryTable
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])
sys.path.insert(0, str(FOLDER / "run"))
import chat  # noqa: E402
import samples  # noqa: E402

_TOLD = {"loss": "loss", "rewards/margins": "reward_margin", "rewards/accuracies": "reward_accuracy"}
_SAME = ("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "max_grad_norm", "weight_decay", "optim", "seed")


class Lines(TrainerCallback):  # type: ignore[misc]
    """Keeps when each step was done, and what was said of it."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.lines.append({"time": time.time(), **{ours: logs[name] for name, ours in _TOLD.items() if name in logs}})


class ByTokens(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer of preferences on rows that are tokens already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def main() -> None:
    """Train as the run's config.json says, and leave what each step said in trl.json."""
    config = json.loads((FOLDER / "run" / "config.json").read_text())
    base = FOLDER / "output" / "model" / "base"  # of the tiny one, which the run has made
    base = base if base.is_dir() else Path(config["base_model"])
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "output" / "model")
    found = samples.encode(str(FOLDER / "run"), str(FOLDER / "input"), config, chat.Encoder(tokenizer))
    items = [found[number] for number in range(len(found))]
    torch.manual_seed(config["seed"])
    lora = LoraConfig(
        r=config["lora_rank"], lora_alpha=config["lora_alpha"], lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
        target_modules=config["target_modules"],
    )  # fmt: skip
    lines = Lines()
    parts = {"model": get_peft_model(model, lora), "processing_class": tokenizer, "callbacks": [lines]}
    (_by_preference if config["method"] == "dpo" else _by_answers)(config, items, parts).train()
    (FOLDER / "trl.json").write_text(json.dumps(lines.lines))


def _by_answers(config: Mapping[str, Any], items: list[Any], parts: Mapping[str, Any]) -> Any:
    tokens = [
        {"input_ids": ids.tolist(), "labels": [number if learnt else -100 for number, learnt in zip(ids.tolist(), mask, strict=True)]}
        for ids, mask, _ in items
    ]
    return SFTTrainer(
        **parts, train_dataset=_rows(tokens), args=SFTConfig(**_settings(config), dataset_kwargs={"skip_prepare_dataset": True})
    )


def _by_preference(config: Mapping[str, Any], items: list[Any], parts: Mapping[str, Any]) -> Any:
    tokens = []
    for (good, learnt, _), (bad, *_) in zip(items[0::2], items[1::2], strict=True):
        asked = int(learnt.argmax())
        tokens.append({"prompt_ids": good[:asked].tolist(), "chosen_ids": good[asked:].tolist(), "rejected_ids": bad[asked:].tolist()})
    # As recipe lora does it, and as TRL is faster and smaller: what the base says is reckoned once.
    more = {"beta": config["dpo_beta"], "loss_type": [config["dpo_loss"]], "precompute_ref_log_probs": True}
    return ByTokens(**parts, train_dataset=_rows(tokens), args=DPOConfig(**_settings(config), **more))


def _rows(tokens: list[dict[str, Any]]) -> Any:
    # Named, for dill cannot look into pyarrow's tables here to find a name for them.
    return Dataset(InMemoryTable.from_pylist(tokens), fingerprint="rows")


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: config[name] for name in _SAME}, "data_seed": config["seed"], "output_dir": str(FOLDER / "trl"), "max_steps": STEPS,
        "num_train_epochs": config["num_train_epochs"], "max_length": config["max_seq_length"], "lr_scheduler_type": "linear",
        "logging_steps": 1, "bf16": False, "gradient_checkpointing": False, "use_cpu": True, "report_to": [], "disable_tqdm": True,
        "save_strategy": "steps", "save_steps": STEPS, "dataloader_pin_memory": False,
        # TRL balances experts unless it is told not to; the recipe does not.
        "router_aux_loss_coef": 0.0,
    }  # fmt: skip


if __name__ == "__main__":
    main()
