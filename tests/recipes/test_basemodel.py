"""What is known of a base before its weights: size, positions, layers; what a training needs of memory and disk."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from trainyard.errors import UserError
from trainyard.recipes import basecheck, basemodel
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.fit.base import look
from trainyard.recipes.fit.shapes import shape_of
from trainyard.recipes.values import needs_of, resolve

LORA = load_recipe(ROOT, "lora")
QWEN_8B = {
    "hidden_size": 4096, "num_hidden_layers": 36, "vocab_size": 151936, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 128, "intermediate_size": 12288, "max_position_embeddings": 40960,
}  # fmt: skip


def needs(*sets: str) -> dict[str, Any]:
    return needs_of(LORA, resolve(LORA, sets=["device=gpu", *sets]))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a config and the heads of its weights."""
    folder = tmp_path / "Small-Base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**QWEN_8B, "hidden_size": 64, "num_hidden_layers": 1, "max_position_embeddings": 128}))
    names = [f"model.layers.0.{part}.weight" for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.experts.3.up_proj")]
    head = json.dumps({name: {"dtype": "F32", "shape": [1000, 1000], "data_offsets": [0, 0]} for name in names}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    return folder


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen3-30B-A3B", 30), ("Qwen/Qwen3-0.6B-Base", 0.6), ("HuggingFaceTB/SmolLM2-135M", 0.135), ("x/opt-125m", 0.125),
        ("mistralai/Mixtral-8x7B-v0.1", 56), ("a/Llama-3.1-405B-Instruct", 405), ("a/b-7b-4bit", 7), ("microsoft/phi-2", None),
        ("deepseek-ai/DeepSeek-V3", None), ("google/gemma-3n-E4B", None), ("a/model2b1", None),
    ],
)  # fmt: skip
def test_the_size_of_a_base_is_what_its_name_says_or_unknown(name: str, billions: float | None) -> None:
    found = look(name)
    assert found.parameters == (None if billions is None else pytest.approx(billions * 1e9))
    assert found.source == ("its name" if billions else "")


def test_a_small_base_needs_little_and_a_huge_one_fits_no_gpu() -> None:
    small, huge, plain = needs("base_model=a/b-0.1B"), needs("base_model=a/Llama-405B"), needs("base_model=a/b-8B")
    assert small["vram_gb"] < 8 and small["disk_gb"] < 20
    assert huge["vram_gb"] > 800 and huge["disk_gb"] > 800
    assert 20 <= plain["vram_gb"] <= 24 and 20 <= plain["disk_gb"] <= 40


def test_the_method_counts() -> None:
    base = "base_model=a/b-8B"
    assert needs(base, "load_in_4bit=true")["vram_gb"] < needs(base)["vram_gb"] - 8
    assert needs(base, "max_seq_length=16384")["vram_gb"] > needs(base)["vram_gb"] + 15
    assert needs(base, "modules_to_save=lm_head,embed_tokens")["vram_gb"] > needs(base)["vram_gb"] + 15
    moe = ["base_model=Qwen/Qwen3-30B-A3B", "backend=unsloth"]
    # measured: 28 to 32 GB with all seven targets, 20 to 24 with attention alone
    assert 28 <= needs(*moe)["vram_gb"] <= 32 and 20 <= needs(*moe, "target_modules=q_proj,k_proj,v_proj,o_proj")["vram_gb"] <= 24


def test_a_size_that_is_not_known_is_said_with_the_way_to_say_better() -> None:
    values = resolve(LORA, sets=["base_model=microsoft/phi-2", "device=gpu"])
    [line] = basecheck.needs_lines(LORA, values)
    assert "the size of microsoft/phi-2 is not known here: 24 GB" in line and "--set needs.vram_gb" in line
    [line] = basecheck.needs_lines(LORA, resolve(LORA, sets=["base_model=a/b-8B", "device=gpu"]))
    assert "from 8 billion parameters (its name)" in line


def test_cuda_follows_the_lock_and_a_python_of_the_image_brings_its_own() -> None:
    assert needs("base_model=a/b-8B")["cuda"] == "13.0"
    assert needs("base_model=a/b-8B", "python=python3")["cuda"] is None
    assert needs_of(LORA, resolve(LORA, sets=["device=cpu"]))["cuda"] is None


def test_a_folder_tells_size_layers_and_positions(base: Path) -> None:
    found = look(str(base))
    assert (found.parameters, found.source) == (3e6, "its weights")
    assert "model.layers.0.self_attn.q_proj" in found.layers
    assert basemodel.positions(found.config) == 128
    shape = shape_of(QWEN_8B)
    assert shape is not None and shape.total == pytest.approx(8.2e9, rel=0.02) and not shape.exact


REFUSED = {
    "max_seq_length 256 is more than the 128 positions": ["max_seq_length=256"],
    "has no k_porj; it has q_proj, up_proj, v_proj": ["max_seq_length=128", "target_modules=q_proj,k_porj"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_base_cannot_do_is_refused_before_anything_is_rented(base: Path, message: str) -> None:
    values = resolve(LORA, sets=[f"base_model={base}", *REFUSED[message]])
    with pytest.raises(UserError, match=message):
        basecheck.refuse(values, on_this_machine=True, volume=False)


@pytest.mark.parametrize("targets", ["q_proj,v_proj", "all-linear", r".*\.(q|v)_proj", "self_attn.q_proj"])
def test_targets_that_the_base_has_are_not_refused(base: Path, targets: str) -> None:
    values = resolve(LORA, sets=[f"base_model={base}", "max_seq_length=128", f"target_modules={targets}"])
    basecheck.refuse(values, on_this_machine=True, volume=False)


def test_experts_in_one_parameter_are_known_by_their_older_names() -> None:
    layers = ["model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj"]
    assert basemodel.problem({}, layers, {"base_model": "x", "target_modules": ["gate_proj", "up_proj", "down_proj"]}) is None
    assert "has no q_proj" in str(basemodel.problem({}, layers, {"base_model": "x", "target_modules": ["q_proj", "up_proj"]}))


def test_a_folder_that_is_not_there_or_not_on_the_pod_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, message in ((tmp_path / "none", "is no folder of this machine"), (tmp_path, "holds no config.json")):
        with pytest.raises(UserError, match=message):
            basecheck.refuse(resolve(LORA, sets=[f"base_model={name}"]), on_this_machine=True, volume=False)
    with pytest.raises(UserError, match="the pods of this stack do not have it"):
        basecheck.refuse(resolve(LORA, sets=[f"base_model={base}"]), on_this_machine=False, volume=True)
    basecheck.refuse(resolve(LORA, sets=["base_model=/volume/models/x"]), on_this_machine=False, volume=True)
    monkeypatch.chdir(tmp_path)
    assert resolve(LORA, sets=["base_model=./Small-Base"])["base_model"] == str(base)


def test_positions_count_the_stretching_that_a_config_asks_for() -> None:
    assert basemodel.positions({"max_position_embeddings": 100, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}) == 400
    assert basemodel.positions({"text_config": {"max_position_embeddings": 100}, "rope_scaling": None}) == 100
    assert basemodel.positions({"n_positions": 1024}) == 1024 and basemodel.positions({}) is None


@pytest.mark.parametrize(
    ("layers", "attention", "everything"),
    [
        (
            ["m.0.self_attn.q_proj", "m.0.self_attn.o_proj", "m.0.self_attn.q_norm", "m.0.mlp.up_proj", "lm_head"],
            ["o_proj", "q_proj"],
            ["o_proj", "q_proj", "up_proj"],
        ),
        (["m.0.self_attn.v_proj", "m.0.mlp.experts.gate_up_proj"], ["v_proj"], ["gate_proj", "up_proj", "v_proj"]),
        (["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj"], ["attn.c_proj", "c_attn"], ["c_attn", "c_fc", "c_proj"]),
    ],
)
def test_auto_and_attention_stand_for_the_names_that_a_base_has(layers: list[str], attention: list[str], everything: list[str]) -> None:
    assert basemodel.adapted(["attention"], layers) == attention
    assert basemodel.adapted(["auto"], layers) == everything
    assert basemodel.adapted(["attention", "lm_head"], layers) == [*attention, "lm_head"]
    values = {"base_model": "x", "target_modules": ["attention"]}
    assert basemodel.problem({}, layers, values) is None
    assert "no layer of x has a name that auto and attention know" in str(basemodel.problem({}, ["a.b"], values))


def test_a_base_that_is_trained_whole_needs_sixteen_bytes_a_weight_and_attention_less_than_all() -> None:
    assert needs("base_model=a/b-8B", "method=full")["vram_gb"] > 128
    choices: list[list[str]] = [["target_modules=attention"], ["target_modules=auto"], []]
    attention, auto, seven = (needs("base_model=a/b-8B", "lora_rank=256", *each) for each in choices)
    assert attention["vram_gb"] < auto["vram_gb"] == seven["vram_gb"]
