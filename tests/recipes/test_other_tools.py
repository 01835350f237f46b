"""Config files of other tools: each key is understood or refused with our name for it, all of them at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import needs_of, resolve

LORA = load_recipe(ROOT, "lora")
AXOLOTL = """
base_model: Qwen/Qwen3-0.6B
adapter: qlora
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05
lora_target_linear: true
sequence_len: 512
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 1
optimizer: adamw_8bit
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
sample_packing: false
flash_attention: true
deepspeed:
output_dir: ./out
"""
FACTORY = """
### model
model_name_or_path: Qwen/Qwen3-0.6B
### method
stage: sft
do_train: true
finetuning_type: lora
lora_target: all
cutoff_len: 1024
warmup_ratio: 0.1
lr_scheduler_type: cosine
plot_loss: true
"""


def read(
    tmp_path: Path, text: str, name: str = "c.yaml", sets: list[str] | tuple[str] = ("device=gpu",), told: list[Any] | None = None
) -> Values:
    (tmp_path / name).write_text(text)
    return resolve(LORA, tmp_path / name, sets, on_note=(told if told is not None else []).append)


def test_a_file_of_axolotl_is_understood(tmp_path: Path) -> None:
    told: list[str] = []
    values = read(tmp_path, AXOLOTL, told=told)
    expected = {
        "base_model": "Qwen/Qwen3-0.6B", "load_in_4bit": True, "lora_rank": 16, "target_modules": ["all-linear"], "max_seq_length": 512,
        "per_device_train_batch_size": 2, "num_train_epochs": 1, "optim": "adamw_8bit", "lr_scheduler_type": "cosine",
    }  # fmt: skip
    assert expected.items() <= values.items()
    assert told == ["c.yaml: bf16, flash_attention, deepspeed, output_dir of another tool's file say nothing to recipe lora"]


def test_a_file_of_llama_factory_and_one_of_peft_are_understood(tmp_path: Path) -> None:
    values = read(tmp_path, FACTORY)
    assert (values["max_seq_length"], values["warmup_ratio"], values["target_modules"]) == (1024, 0.1, ["all-linear"])
    given = {
        "r": 4,
        "target_modules": "q_proj,v_proj",
        "modules_to_save": ["lm_head"],
        "task_type": "CAUSAL_LM",
        "bias": "none",
        "peft_type": "LORA",
    }
    values = read(tmp_path, json.dumps(given), "c.json")
    assert (values["lora_rank"], values["target_modules"], values["modules_to_save"]) == (4, ["q_proj", "v_proj"], ["lm_head"])
    pattern = r".*\.(q|v)_proj"
    assert read(tmp_path, json.dumps({"target_modules": pattern}), "c.json")["target_modules"] == [pattern]


AXOLOTL_WHOLE = """
load_in_8bit: false
load_in_4bit: true
datasets: [{path: a/b, type: alpaca}]
dataset_prepared_path: last_run_prepared
adapter: qlora
lora_model_dir:
eval_sample_packing: true
lora_mlp_kernel: true
wandb_entity:
wandb_log_model:
tf32: false
resume_from_checkpoint:
loss_watchdog_threshold: 5.0
evals_per_epoch: 4
saves_per_epoch: 1
special_tokens:
  pad_token: "<|end_of_text|>"
"""
FACTORY_WHOLE = """
trust_remote_code: true
dataset: identity
template: qwen3_nothink
max_samples: 1000
overwrite_cache: true
save_only_model: false
additional_target: lm_head
ddp_timeout: 180000000
resume_from_checkpoint: null
"""
TRL_WHOLE = """
model_revision: main
torch_dtype: float16
use_peft: true
dataset_mixer: {a/b: 1.0}
dataset_splits: [train_prefs]
hub_model_id: me/mine
log_level: info
max_prompt_length: 512
push_to_hub: true
save_strategy: "no"
special_tokens: {eos_token: <|im_end|>}
"""
UNSLOTH_WHOLE = """
model: {model_name: unsloth/llama-3-8b, max_seq_length: 2048, dtype: null}
lora: {r: 16, use_gradient_checkpointing: unsloth, random_state: 3407, loftq_config: null, modules_to_save: null}
training: {seed: 3407, group_by_length: true}
save_method: merged_16bit
hub_token: hf_secret
"""


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (AXOLOTL_WHOLE, ["datasets", "evals_per_epoch"]),
        (FACTORY_WHOLE, ["dataset", "template", "max_samples"]),
        (TRL_WHOLE, ["torch_dtype", "dataset_mixer", "dataset_splits", "hub_model_id", "max_prompt_length", "push_to_hub", "eos_token"]),
        (UNSLOTH_WHOLE, ["group_by_length", "hub_token"]),
    ],
)
def test_of_a_whole_file_of_another_tool_only_what_would_change_the_training_is_to_be_taken_out(
    tmp_path: Path, text: str, refused: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    found = [line.split(": ")[1] for line in str(caught.value).splitlines() if line.startswith(str(tmp_path))]
    assert found == refused and "hf_secret" not in str(caught.value) and "has no variable" not in str(caught.value)


def test_a_setting_that_another_tool_says_twice_alike_or_leaves_empty_is_no_contradiction(tmp_path: Path) -> None:
    told: list[str] = []
    values = read(tmp_path, "base_model: a/b-1B\nload_in_4bit: true\nadapter: qlora\nmodules_to_save:\nnever_heard_of:\n", told=told)
    assert values["load_in_4bit"] is True and values["modules_to_save"] == []
    assert told == ["c.yaml: modules_to_save (empty), never_heard_of (empty) of another tool's file say nothing to recipe lora"]
    with pytest.raises(UserError, match="'adapter' and an earlier line set load_in_4bit differently"):
        read(tmp_path, "load_in_4bit: false\nadapter: qlora\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("save_method: merged_16bit\n", {"output": "merged"}),
        ("use_gradient_checkpointing: unsloth\n", {"gradient_checkpointing": True}),
        ("use_peft: false\n", {"method": "full"}),
        ("val_set_size: 0.1\nearly_stopping_patience: 3\n", {"eval_fraction": 0.1, "early_stop_patience": 3, "keep_best": True}),
        ("sample_packing: true\n", {"packing": True}),
        ("adapter:\nbase_model: a/b-1B\n", {"method": "full"}),
        ("finetuning_type: full\nval_size: 0.2\n", {"method": "full", "eval_fraction": 0.2}),
        ("stage: dpo\npref_beta: 0.3\npref_loss: sigmoid\n", {"method": "dpo", "dpo_beta": 0.3}),
        ("rl: ipo\n", {"method": "dpo", "dpo_loss": "ipo"}),
        ("peft_use_rslora: true\npeft_use_dora: true\ntarget_modules: attention\n", {"use_rslora": True, "use_dora": True}),
        ("train_on_inputs: true\nnoisy_embedding_alpha: 5\n", {"train_on": "all", "neftune_noise_alpha": 5}),
        ("load_best_model_at_end: true\neval_strategy: steps\neval_steps: 7\nval_size: 0.1\n", {"keep_best": True, "eval_steps": 7}),
    ],
)  # fmt: skip
def test_what_was_once_refused_of_other_tools_has_its_meaning(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    assert expected.items() <= read(tmp_path, text).items()


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["early_stop_patience=2"], "needs rows that are held back"),
        (["keep_best=true"], "needs rows that are held back"),
        (["method=full", "use_dora=true"], "method full trains every weight"),
        (["method=full", "output=both"], "output both is of an adapter"),
        (["base_model=a/b-1B", "backend=unsloth", "device=gpu", "output=merged"], "output merged needs backend hf"),
        (["method=dpo", "packing=true"], "do not go together"),
        (["use_dora=true", "base_model=Qwen/Qwen3-30B-A3B"], "Set target_modules to attention"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_with_what_would(sets: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolve(LORA, sets=sets)


def test_groups_of_settings_are_opened(tmp_path: Path) -> None:
    values = read(tmp_path, "lora:\n  rank: 4\ntraining: {lr: 1e-3, schedule: {warmup_steps: 3}}\n")
    assert (values["lora_rank"], values["learning_rate"], values["warmup_steps"]) == (4, 1e-3, 3)
    with pytest.raises(UserError, match="set lora_rank differently"):
        read(tmp_path, "rank: 2\nlora:\n  rank: 4\n")


def test_everything_wrong_in_file_and_arguments_is_told_at_once_with_places(tmp_path: Path) -> None:
    text = "lora:\n  rnak: 4\nload_in_8bit: true\nlr: fast\neval_strategy: epoch\ndatasets: [{path: a}]\n"
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, sets=["rank=x", "nothing=1"])
    told = str(caught.value)
    assert told.startswith(f"{tmp_path}/c.yaml:2:3: recipe lora has no variable 'rnak' (did you mean 'rank'")
    assert "7 settings are wrong" in told
    assert f"{tmp_path}/c.yaml:3:1: load_in_8bit: 8 bits are not served" in told
    assert f"{tmp_path}/c.yaml:4:5: lr must be a number" in told and "every eval_steps steps" in told and "say --data FILE" in told
    assert "--set rank=x: rank must be" in told and "--set nothing=1: recipe lora has no variable 'nothing'" in told


def test_what_a_run_needs_can_be_said_by_hand(tmp_path: Path) -> None:
    values = read(tmp_path, "needs:\n  vram_gb: 20\n  cuda: 12.4\n", sets=["needs.disk_gb=7", "base_model=x/y-8B"])
    needs = needs_of(LORA, values)
    assert (needs["vram_gb"], needs["cuda"], needs["disk_gb"], needs["gpus"]) == (20, "12.4", 7, 1)
    assert resolve(LORA, sets=["needs.cuda=none"])["needs.cuda"] is None
    with pytest.raises(UserError, match=r"no variable 'needs.vram' \(did you mean 'needs.vram_gb'"):
        resolve(LORA, sets=["needs.vram=3"])


def test_the_example_of_a_large_mixture_is_26_steps_of_197_rows_and_fits_32_gb() -> None:
    values = resolve(LORA, ROOT / "docs" / "examples" / "qwen3-30b-a3b.yaml")
    numbers = (values["per_device_train_batch_size"], values["gradient_accumulation_steps"], values["num_train_epochs"])
    batch, accumulation, epochs = (int(str(number).removesuffix(".0")) for number in numbers)
    assert epochs * math.ceil(math.ceil(197 / batch) / accumulation) == 26
    assert float(str(needs_of(LORA, values)["vram_gb"])) <= 32
