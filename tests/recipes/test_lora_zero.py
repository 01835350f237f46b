"""Trainings of recipe lora shared out by DeepSpeed, which runs on a CPU, too: as one process does it, and gone on exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.test_lora_ranks import AT_ONCE, ROWS, check_losses_and_weights, killed
from tests.recipes.trainings import Training, environment
from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.values import beside_of, resolve

LOOKS = ("eval_fraction=0.2", "eval_steps=2", "keep_best=true", "gradient_checkpointing=true")


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("shared", "sets"),
    [
        (("strategy=zero2",), ()),
        (("strategy=zero3",), LOOKS),
        (("strategy=zero3",), ("method=full", "lr=1e-3")),
        (("strategy=zero2", "offload=optimizer"), ("method=full", "lr=1e-3", "eval_fraction=0.2", "keep_best=true")),
        (("strategy=zero3", "offload=all"), ()),
    ],
    ids=str,
)
def test_shared_out_by_deepspeed_losses_are_those_of_one_process_and_a_killed_training_ends_with_the_same_weights(
    tmp_path: Path, shared: tuple[str, ...], sets: tuple[str, ...]
) -> None:
    alone = Training(tmp_path / "alone", environment(), ROWS, *AT_ONCE, *sets).done()
    straight = Training(tmp_path / "straight", environment(), ROWS, *AT_ONCE, *sets, *shared, "gpus=2").done()
    assert "installing the packages of deepspeed.lock" in straight.log and straight.result["strategy"] == shared[0][9:]
    again = killed(Training(tmp_path / "again", environment(), ROWS, *AT_ONCE, *sets, *shared, "gpus=2"), 5).done()
    assert "going on from checkpoint-4" in again.log
    check_losses_and_weights(alone, straight, again, sets)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("strategy=zero3", "method=dpo"), "strategy zero3 is served for methods lora and full"),
        (("strategy=zero2", "packing=true"), "strategy zero2 is served for"),
        (("strategy=zero2", "optim=adafactor"), "shares out adamw_torch or adamw_torch_fused, not adafactor"),
        (("strategy=zero2", "offload=all"), "offload all needs strategy zero3 and several GPUs"),
        (("strategy=fsdp", "offload=optimizer"), "offload optimizer needs strategy zero2 or zero3"),
        (("strategy=zero3", "gpus=1", "offload=all"), "several GPUs"),
        (("needs.beside=none.lock",), "its folder has no such file"),
    ],
)
def test_what_deepspeed_does_not_do_here_is_refused_by_name(sets: tuple[str, ...], message: str) -> None:
    recipe = load_recipe(ROOT, "lora")
    with pytest.raises(UserError, match=message):
        beside_of(recipe, resolve(recipe, sets=list(sets)))


def test_only_what_deepspeed_shares_out_installs_it() -> None:
    recipe = load_recipe(ROOT, "lora")
    found = [beside_of(recipe, resolve(recipe, sets=[f"strategy={each}"])) for each in ("auto", "fsdp", "zero2", "zero3")]
    assert found == [None, None, "deepspeed.lock", "deepspeed.lock"]


def test_files_of_deepspeed_that_others_ship_mean_what_is_in_them(tmp_path: Path) -> None:
    recipe, file = load_recipe(ROOT, "lora"), tmp_path / "c.yaml"
    for name, wanted in {
        "deepspeed_configs/zero3_bf16.json": ("zero3", "none"),
        "examples/deepspeed/ds_z2_offload_config.json": ("zero2", "optimizer"),
    }.items():
        file.write_text(f"base_model: Qwen/Qwen3-0.6B\ngpus: 2\ndeepspeed: {name}\n")
        values = resolve(recipe, file)
        assert (values["strategy"], values["offload"]) == wanted
    file.write_text("deepspeed: mine.json\n")
    with pytest.raises(UserError, match="write strategy: zero2 or zero3"):
        resolve(recipe, file)
