"""Real trainings of recipe lora by each of its methods. The suite has one of them, `invoke recipes.long` all."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.trainings import Training, ask, environment, loaded_environment, packages_apart, python, smollm2
from trainyard.recipes import bundle
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

ROWS = [{"instruction": f"Where does engine {each} stand?", "output": f"Engine {each} stands at the north yard."} for each in range(16)]
PAIRS = [{"prompt": row["instruction"], "chosen": row["output"], "rejected": f"I do not know of {n}."} for n, row in enumerate(ROWS)]
FOUR = ("max_steps=4", "save_steps=2", "per_device_train_batch_size=1", "gradient_accumulation_steps=2", "max_seq_length=128")
LOOKS = ("eval_fraction=0.15", "eval_steps=1", "keep_best=true")
METHODS: dict[str, tuple[list[dict[str, str]], tuple[str, ...]]] = {
    "dpo": (PAIRS, ("method=dpo", "output=both")),
    "ipo": (PAIRS, ("method=dpo", "dpo_loss=ipo", "target_modules=all-linear")),
    "full": (ROWS, ("method=full", "learning_rate=0.05")),
    "packing": (ROWS, ("packing=true", "neftune_noise_alpha=5", "train_on=all")),
    "attention": (ROWS, ("use_dora=true", "use_rslora=true", "target_modules=attention", "lora_dropout=0.1")),
    "saved": (ROWS, ("target_modules=auto", "modules_to_save=lm_head", "lr_scheduler_type=cosine", "warmup_steps=1", "weight_decay=0.1")),
}
LINE = ("step", "loss", "eval_loss", "tokens", "lr", "reward_accuracy", "reward_margin")


@pytest.fixture(scope="module")
def envs() -> Iterator[Path]:
    with loaded_environment(environment()) as folder:
        yield folder


@pytest.mark.torch
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["dpo", *(pytest.param(name, marks=pytest.mark.long) for name in METHODS if name != "dpo")])
def test_each_method_goes_on_elsewhere_from_a_checkpoint_alone_as_if_it_had_never_stopped(tmp_path: Path, envs: Path, name: str) -> None:
    rows, sets = METHODS[name]
    straight = Training(tmp_path / "straight", envs, rows, *FOUR, *LOOKS, *sets).done()
    moved = straight.elsewhere(tmp_path / "moved", 2).done()

    assert "going on from checkpoint-2" in moved.log and moved.weights == straight.weights
    said, again = ([{key: line.get(key) for key in LINE} for line in each.metrics] for each in (straight, moved))
    assert said == again and straight.steps == [1, 2, 3, 4]
    best = min((line["eval_loss"], line["step"]) for line in said if line["eval_loss"] is not None)
    for each in (straight, moved):
        assert (each.result["best_eval_loss"], each.result["best_step"]) == best
        assert each.result["weights_of_step"] == each.result["best_step"]
    if name == "dpo":
        assert (straight.model / "merged" / "model.safetensors").exists()
        # ln 2: in the beginning neither answer is likelier than before
        assert abs(straight.losses[1][0] - 0.6931) < 1e-3 and straight.losses[4][0] < 0.6
        trained = [line for line in straight.metrics if "loss" in line]
        assert trained[0]["reward_margin"] == 0 and trained[3]["reward_accuracy"] == 1 and trained[3]["reward_margin"] > 0.1


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_merged_result_says_what_the_base_says_with_the_adapter_and_needs_no_peft(tmp_path: Path, envs: Path) -> None:
    both, merged = (Training(tmp_path / name, envs, ROWS, *FOUR, f"output={name}").done() for name in ("both", "merged"))

    file = "model.safetensors"
    assert (merged.model / file).read_bytes() == (both.model / "merged" / file).read_bytes()
    assert not [path.name for folder in (merged.model, both.model / "merged") for path in folder.iterdir() if "adapter" in path.name]
    assert (both.model / "adapter_model.safetensors").exists() and not (merged.model / "base").exists()
    question = "Where does engine 3 stand?"
    envs, ours = environment(), both.model
    assert ask(envs, merged.model, None, question) == ask(envs, ours / "base", ours, question)


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_training_ends_when_the_rows_held_back_are_answered_worse_and_worse(tmp_path: Path, envs: Path) -> None:
    sets = ("max_steps=12", "early_stop_patience=2", "eval_fraction=0.3", "eval_steps=1", "learning_rate=1", "lr_scheduler_type=constant")
    stopped = Training(tmp_path / "run", envs, ROWS, *FOUR, *sets).done()

    assert "patience is over" in stopped.log and stopped.result["steps"] == stopped.result["best_step"] + 2 < 12
    assert stopped.result["weights_of_step"] == stopped.result["best_step"]


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_loss_that_is_no_number_ends_the_training_with_the_row_it_came_from(tmp_path: Path, envs: Path) -> None:
    rows = [dict(row) for row in ROWS]
    first = Training(tmp_path / "first", envs, rows, *FOUR[1:], "max_steps=1").done()
    base = first.model / "base"
    for path in first.model.glob("tokenizer*"):
        path.rename(base / path.name)
    vocabulary = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    _poison(base / "model.safetensors", [vocabulary[token] for token in ("Ã", "Ł")])
    rows[7]["output"] += "ß"
    broken = Training(tmp_path / "run", envs, rows, *FOUR[1:], "max_steps=8", f"base_model={base}", "chat_template=chatml").done(2)

    assert "the loss is nan at step" in broken.log and "with rows.jsonl:8: lower learning_rate" in broken.log
    assert not (tmp_path / "run" / "output" / "model").exists()


def _poison(file: Path, rows: list[int]) -> None:
    """Make the embeddings of some tokens no numbers."""
    content = bytearray(file.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])["model.embed_tokens.weight"]
    width = table["shape"][1]
    for row in rows:
        at = 8 + length + table["data_offsets"][0] + row * width * 4
        content[at : at + width * 4] = struct.pack("<f", float("nan")) * width
    file.write_bytes(content)


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_real_small_base_learns_in_its_own_template_and_answers_by_it(tmp_path: Path) -> None:
    envs = environment()
    base = smollm2(envs)
    sets = ("max_steps=10", "learning_rate=0.001", "per_device_train_batch_size=4", "gradient_accumulation_steps=1", "max_seq_length=128")
    trained = Training(tmp_path / "run", envs, ROWS, *sets, f"base_model={base}", "gradient_checkpointing=false").done()

    assert "conversations are trained in chat template: the base's own" in trained.log
    before, after = (ask(envs, base, adapter, "Where does engine 40 stand?") for adapter in (None, trained.model))
    assert "north yard" not in before and after == "Engine 40 stands at the north yard."


QUANTISED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
import model
config = json.load(open(sys.argv[1] + "/config.json"))
base = model.load(config, "cpu", None)
wrong = model.check_quantised(base)
if not wrong:
    adapted, ids = model.adapt(base, config), torch.tensor([[5, 6, 7, 8]])
    adapted(input_ids=ids, labels=ids).loss.backward()
    print(all(bool(p.grad.isfinite().all()) for p in adapted.parameters() if p.requires_grad))
print(wrong)
"""


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
def test_what_should_be_in_4_bits_is_and_experts_that_are_not_are_named(tmp_path: Path, envs: Path) -> None:
    mixture = Training(tmp_path / "first", envs, ROWS, *FOUR[1:], "max_steps=1").done().model / "base"
    recipe, said = load_recipe(ROOT, "lora"), []
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages_apart(environment())), "HF_HUB_OFFLINE": "1"}
    for name, base in (("dense", smollm2(environment())), ("mixture", mixture)):
        values = resolve(recipe, sets=["device=gpu", "load_in_4bit=true", f"base_model={base}"])
        bundle.build(recipe, values, inspect(None, recipe, values=values), tmp_path / name)
        order = [str(python(environment())), "-c", QUANTISED, str(tmp_path / name)]
        said.append(subprocess.run(order, env=env, capture_output=True, text=True, check=True).stdout)

    assert said[0] == "train: 100% of the base weights are in 4 bits\nTrue\nNone\n"
    assert "% of the weights between embedding and head are in 4 bits, and model.layers.*.mlp.experts.gate_up_proj" in said[1]
