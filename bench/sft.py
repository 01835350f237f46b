"""The peer of bench.lora: TRL's SFTTrainer on the tokens, base and settings of a run of recipe lora. sft.py FOLDER STEPS"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.table import InMemoryTable
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])
sys.path.insert(0, str(FOLDER / "run"))
import chat  # noqa: E402
import samples  # noqa: E402


class Lines(TrainerCallback):  # type: ignore[misc]
    """Keeps when each step was done, and its loss."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.lines.append({"time": time.time(), "loss": logs["loss"]})


config = json.loads((FOLDER / "run" / "config.json").read_text())
model = AutoModelForCausalLM.from_pretrained(FOLDER / "output" / "model" / "base", dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(FOLDER / "output" / "model")
found = samples.encode(str(FOLDER / "run"), str(FOLDER / "input"), config, chat.Encoder(tokenizer))
tokens = [
    {"input_ids": ids.tolist(), "labels": [number if learnt else -100 for number, learnt in zip(ids.tolist(), mask, strict=True)]}
    for ids, mask, _ in (found[number] for number in range(len(found)))
]
# Named, for dill cannot look into pyarrow's tables here to find a name for them.
rows = Dataset(InMemoryTable.from_pylist(tokens), fingerprint="rows")
torch.manual_seed(config["seed"])
lora = LoraConfig(
    r=config["lora_rank"], lora_alpha=config["lora_alpha"], lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
    target_modules=config["target_modules"],
)  # fmt: skip
same = ("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "max_grad_norm", "weight_decay", "optim", "seed")
lines = Lines()
trainer = SFTTrainer(
    model=get_peft_model(model, lora), processing_class=tokenizer, train_dataset=rows, callbacks=[lines],
    args=SFTConfig(
        output_dir=str(FOLDER / "trl"), max_steps=STEPS, num_train_epochs=config["num_train_epochs"], max_length=config["max_seq_length"],
        **{name: config[name] for name in same}, data_seed=config["seed"], lr_scheduler_type="linear", logging_steps=1, bf16=False,
        gradient_checkpointing=False, use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="steps", save_steps=STEPS,
        dataloader_pin_memory=False, dataset_kwargs={"skip_prepare_dataset": True},
    ),
)  # fmt: skip
trainer.train()
(FOLDER / "trl.json").write_text(json.dumps(lines.lines))
