"""What a training needs, from a base's config.json: counts that are transformers' own, memory by its parts, work by its passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainyard.recipes.fit import memory
from trainyard.recipes.fit.memory import Method
from trainyard.recipes.fit.shapes import guessed, shape_of
from trainyard.recipes.fit.work import flops

# What transformers 5.23 counts in each, built on its meta device by AutoModelForCausalLM.from_config().
BASES = {row["name"]: row for row in map(json.loads, (Path(__file__).parent / "data" / "shapes.jsonl").read_text().splitlines())}
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MOE = "Qwen3-30B-A3B"


def shape(name: str) -> Any:
    found = shape_of(BASES[name]["config"])
    assert found is not None
    return found


def method(**values: Any) -> Method:
    return Method.of({"target_modules": list(ALL), "lora_rank": 8, "gradient_checkpointing": True, "max_seq_length": 2048} | values)


@pytest.mark.parametrize("name", BASES)
def test_the_parameters_of_a_base_are_counted_as_transformers_counts_them(name: str) -> None:
    assert shape(name).total == BASES[name]["parameters"] and shape(name).exact


def test_the_parts_of_a_mixture_are_told_apart() -> None:
    found = shape(MOE)
    parts = [found.total, found.experts, found.attention, found.embedding + found.head, found.active]
    assert [round(part / 1e9, 3) for part in parts] == [30.532, 28.991, 0.906, 0.622, 3.353]


def test_an_adapter_is_as_large_as_peft_makes_it_experts_of_one_parameter_included() -> None:
    assert round(memory.trained(shape(MOE), method()) / 1e6, 1) == 497.4
    for targets in (list(ALL[:4]), ["attention"], [r".*self_attn\.[qkvo]_proj"]):
        assert round(memory.trained(shape(MOE), method(target_modules=targets)) / 1e6, 1) == 6.7
    half = memory.trained(shape(MOE), method(target_modules=[r"model\.layers\.(1\d|2\d|3[0-3])\.self_attn\.[qkvo]_proj"]))
    assert half * 2 == memory.trained(shape(MOE), method(target_modules=["attention"]))
    assert memory.trained(shape("Phi-3-mini"), method(target_modules=["qkv_proj"])) == 8 * 32 * (3072 + 3 * 3072)


@pytest.mark.parametrize(
    ("values", "least", "most"),
    # Measured: 28 to 32 GB in 4 bits with all seven targets, 20 to 24 with attention alone, 70 to 75 in 16 bits.
    [({"load_in_4bit": True}, 28, 32), ({"load_in_4bit": True, "target_modules": ["attention"]}, 20, 24), ({}, 70, 75.5)],
)
def test_the_memory_of_the_mixture_is_what_was_measured(values: dict[str, Any], least: float, most: float) -> None:
    assert least <= memory.memory(shape(MOE), method(**values)).total / memory.GB <= most


def test_memory_follows_the_method() -> None:
    found = shape("Llama-3.1-8B")
    plain = memory.memory(found, method())
    assert plain.weights == 2 * found.total and memory.memory(found, method(load_in_4bit=True)).weights < 0.36 * plain.weights
    assert memory.memory(found, method(optim="adamw_8bit")).optimizer == plain.optimizer / 4
    assert memory.memory(found, method(gradient_checkpointing=False)).activations > 10 * plain.activations
    assert memory.memory(found, method(max_seq_length=4096)).logits == 2 * plain.logits
    whole = memory.memory(found, method(method="full"))
    assert whole.total > 3 * plain.total > 0 and whole.adapter == 0
    assert whole.weights + whole.gradients + whole.optimizer == 16 * found.total  # in 32 bits, as lora trains it


def test_work_counts_active_parameters_and_passes() -> None:
    found = shape(MOE)
    adapter = flops(found, method(), 1e6)
    # Once forward, once back, once more forward: 6 operations for each parameter that a token meets, beside attention.
    assert adapter == pytest.approx(6e6 * (found.active - found.embedding), rel=0.15)
    assert flops(found, method(gradient_checkpointing=False), 1e6) == pytest.approx(adapter * 2 / 3)
    assert flops(found, method(method="full"), 1e6) == pytest.approx(adapter * 4 / 3)


@pytest.mark.parametrize(("name", "billions"), [("a/x-0.6B", 0.6), ("a/x-8B", 8), ("a/x-70B", 70), ("a/8x7B", 56), ("a/x-30B-A3B", 30)])
def test_a_shape_from_a_size_alone_is_near_that_size_and_not_called_exact(name: str, billions: float) -> None:
    found = guessed(name, billions * 1e9)
    assert found.total == pytest.approx(billions * 1e9, rel=0.15) and not found.exact


@pytest.mark.parametrize("config", [{}, {"hidden_size": "x"}, {"hidden_size": 8, "num_hidden_layers": None}, {"vocab_size": -1}])
def test_a_config_that_tells_no_transformer_has_no_shape(config: dict[str, Any]) -> None:
    assert shape_of(config) is None


def test_gpus_that_share_a_model_hold_parts_of_it_and_those_that_do_not_gradients_twice() -> None:
    one, two, four = (memory.memory(shape("Qwen3-8B"), method(method="full", strategy="fsdp", gpus=count)) for count in (1, 2, 4))
    assert one == memory.memory(shape("Qwen3-8B"), method(method="full", strategy="ddp"))
    assert (two.gradients, four.optimizer) == (one.gradients / 2, one.optimizer / 4)
    assert one.weights / 4 < four.weights < two.weights < one.weights and four.activations == one.activations
    assert memory.memory(shape("Qwen3-8B"), method(gpus=2)).gradients == 2 * memory.memory(shape("Qwen3-8B"), method()).gradients


def test_by_deepspeed_gpus_hold_parts_too_and_what_main_memory_holds_is_none_of_theirs() -> None:
    found = shape("Qwen3-8B")

    def of(strategy: str, **more: Any) -> memory.GpuMemory:
        return memory.memory(found, method(method="full", gpus=4, strategy=strategy, **more))

    two, three = of("zero2"), of("zero3")
    assert two.weights == 2 * found.total + 4 * found.total / 4  # in 16 bits whole, and a part of what is stepped on
    assert (two.gradients, two.optimizer) == (three.gradients, three.optimizer) == (found.total, 2 * found.total)
    assert three.weights < two.weights and of("zero2", offload="optimizer").optimizer == 0
    assert of("zero3", offload="all").total < of("zero3", offload="optimizer").total < three.total
    assert len({method(gpus=2, strategy=each).kind for each in ("ddp", "fsdp", "zero2", "zero3")}) == 4
