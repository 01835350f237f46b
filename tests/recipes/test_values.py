"""Values of a run: who wins, what is refused, and where the message points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import COUNT, ROOT, SMALL
from trainyard.errors import UserError
from trainyard.recipes.configfile import recipe_named_in
from trainyard.recipes.contract import Recipe, load_recipe, recipe_names
from trainyard.recipes.values import artefacts_of, lock_for, locked_packages, needs_of, resolve, sets_with
from trainyard.yamlfile import Map, parse


def test_defaults_then_stack_settings_then_config_then_set(small: Recipe, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("rank: 2\nmode: big\n")

    assert resolve(small)["rank"] == 4
    assert resolve(small, stack_settings={"rank": 1, "gpu": ["H100"]})["rank"] == 1
    assert resolve(small, config, stack_settings={"rank": 1})["rank"] == 2
    assert resolve(small, config, ["rank=3"], {"rank": 1})["rank"] == 3
    assert resolve(small, config, ["rank=3", "rank=5"])["rank"] == 5


def test_a_default_may_depend_on_other_values_but_a_given_value_stays(small: Recipe) -> None:
    assert resolve(small, sets=["mode=big"])["rank"] == 8
    assert resolve(small, sets=["mode=big", "r=4"])["rank"] == 4


def test_an_alias_sets_the_variable(small: Recipe, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("lr: 1e-4\n")
    assert resolve(small, config)["rate"] == 1e-4
    assert resolve(small, sets=["lr=2e-5"])["rate"] == 2e-5


def test_a_variable_set_under_two_names_is_refused(small: Recipe, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("lr: 0.1\nrate: 0.2\n")
    with pytest.raises(UserError, match="set rate differently") as caught:
        resolve(small, config)
    assert str(caught.value.where).endswith("c.yaml:2:1")


def test_json_is_read_with_tabs_escapes_and_places(small: Recipe, tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"names": ["\U0001f682", "/"], "rank": 3}, indent="\t"))
    assert resolve(small, config) | {"names": ["\U0001f682", "/"], "rank": 3} == resolve(small, config)

    config.write_text('{\n\t"rank": "many"\n}\n')
    with pytest.raises(UserError, match="rank must be a whole number, not 'many'") as caught:
        resolve(small, config)
    assert str(caught.value.where).endswith("c.json:2:10")


@pytest.mark.parametrize(
    ("name", "text", "place", "message"),
    [
        ("c.yaml", "rank: 8\nrnak: 9\n", "c.yaml:2:1", r"no variable 'rnak' \(did you mean 'rank'"),
        ("c.yaml", "rank: eight\n", "c.yaml:1:7", "rank must be a whole number, not 'eight'"),
        ("c.yaml", "rate: 1.5\n", "c.yaml:1:7", "rate must be at most 1, not 1.5"),
        ("c.yaml", "mode: huge\n", "c.yaml:1:7", "mode must be one of tiny, big, not 'huge'"),
        ("c.yaml", "rank: 12\nfast: true\n", "c.yaml:2:7", "fast works up to rank 8, not 12"),
        ("c.yaml", "rank: 1\nrank: 2\n", "c.yaml:2:1", "twice"),
        ("c.yaml", "- rank\n", "c.yaml:1:1", "name|key"),
        ("c.json", '{"rank" 8}\n', "c.json:1:9", "not valid JSON"),
        ("c.json", '{"rank": 8, "rank": 9}\n', "c.json:1:13", "twice"),
        ("c.json", "[]\n", "c.json:1:1", "top level"),
        ("c.json", "", "c.json:1:1", "not valid JSON"),
    ],
)
def test_a_flaw_of_the_config_file_is_told_with_its_place(
    small: Recipe, tmp_path: Path, name: str, text: str, place: str, message: str
) -> None:
    config = tmp_path / name
    config.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        resolve(small, config)
    assert str(caught.value.where).endswith(place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank", "write --set name=value"),
        ("=3", "write --set name=value"),
        ("rnak=3", "did you mean 'rank'"),
        ("rank=x", "--set rank=x: rank must be"),
        ("lr=0", "lr must be more than 0"),
        ("script=/nonexistent/x", "there is no file '/nonexistent/x'"),
    ],
)
def test_a_flaw_of_a_set_names_the_argument(small: Recipe, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(small, sets=[text])


def test_a_flaw_of_the_stack_settings_points_into_them(small: Recipe) -> None:
    settings = parse("cloud: local\nrank: many\n", "Pulumi.local.yaml")
    assert isinstance(settings, Map)
    with pytest.raises(UserError, match="rank must be") as caught:
        resolve(small, stack_settings=settings)
    assert str(caught.value.where) == "Pulumi.local.yaml:2:7"


def test_a_combination_that_cannot_work_is_refused_wherever_its_parts_come_from(small: Recipe) -> None:
    with pytest.raises(UserError, match="--set fast=true: fast works up to rank 8, not 9"):
        resolve(small, sets=["fast=true"], stack_settings={"rank": 9})
    assert resolve(small, sets=["fast=true"])["fast"] is True


def test_a_file_is_found_from_where_it_is_written(small: Recipe, tmp_path: Path) -> None:
    (tmp_path / "go.sh").write_text("true\n")
    config = tmp_path / "c.yaml"
    config.write_text("script: go.sh\n")
    assert resolve(small, config)["script"] == str(tmp_path / "go.sh")


def test_needs_are_reckoned_from_the_values(small: Recipe) -> None:
    assert needs_of(small, resolve(small, sets=["rank=5"])) == {"disk_gb": 10, "vram_gb": 1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: float", "type: flaot", "unknown type 'flaot' .did you mean 'float'"),
        ("default: 0.5", "default: high", "the default of rate must be a number"),
        ("data: none", "data: nothing", "must be rows, files or none"),
        ("max: 1", "maxx: 1", "unknown key 'maxx' .did you mean 'max'"),
        ("summary: a small recipe", "sumary: x", "'summary' is missing"),
        ("alias: [r]", "alias: [mode]", "'mode' names two variables"),
        ("variable: fast", "variable: faast", "'faast' is no variable .* .did you mean 'fast'"),
        ("exit_codes: [0]", "exit_codes: [none]", "whole numbers"),
        ("mode == 'tiny'", "mood == 'tiny'", "mood"),
        ("  names: {", "  program: {", "cannot be called 'program': the name is taken"),
        ("fast and rank > 8", "fast and and", "expression"),
    ],
)
def test_a_flaw_of_recipe_yaml_is_told_by_name(checkout: Callable[..., Any], old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(UserError, match=message):
        resolve(load_recipe(checkout(SMALL.replace(old, new)), "small"), sets=["fast=true"])


def test_an_unknown_recipe_lists_the_known_ones(checkout: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"no recipe 'smal' .did you mean 'small'"):
        load_recipe(checkout(), "smal")


# ---- the recipes of the project


def test_every_recipe_of_the_project_loads() -> None:
    assert {"command", "lora"} <= set(recipe_names(ROOT))
    for name in recipe_names(ROOT):
        assert load_recipe(ROOT, name).variables


def test_the_config_file_of_earlier_users_is_understood_word_for_word(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        '{"base_model": "Qwen/Qwen3-30B-A3B", "lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.0, "num_train_epochs": 2,'
        ' "learning_rate": 0.0002,'
        ' "per_device_train_batch_size": 1, "gradient_accumulation_steps": 16, "max_seq_length": 2048}'
    )
    lora = load_recipe(ROOT, "lora")
    values = resolve(lora, config)
    assert (values["base_model"], values["learning_rate"], values["max_seq_length"]) == ("Qwen/Qwen3-30B-A3B", 2e-4, 2048)
    # measured: 70 to 75 GB in bf16, 28 to 32 in 4 bits
    plain: Any = needs_of(lora, values)["vram_gb"]
    packed: Any = needs_of(lora, resolve(lora, config, ["backend=unsloth"]))["vram_gb"]
    assert 70 <= plain <= 80
    assert 28 <= packed <= 32


MOE = "base_model=Qwen/Qwen3-30B-A3B"
CANNOT = {
    "dropout on experts": (["lora_dropout=0.05"], "Set lora_dropout to 0"),
    "dropout on experts of a large model": ([MOE, "lora_dropout=0.05"], "Set lora_dropout to 0"),
    "half of the fused projection": (["target_modules=q_proj,up_proj"], "gate_proj and up_proj together"),
    "4 bits on experts": ([MOE, "load_in_4bit=true"], "Set backend to unsloth"),
    "4 bits without bitsandbytes": (["base_model=a/b", "load_in_4bit=true", "device=cpu"], "set device to gpu"),
    "Unsloth without a GPU": (["base_model=a/b", "backend=unsloth", "device=cpu"], "needs an NVIDIA GPU"),
    "Unsloth and the tiny model": (["backend=unsloth"], "hf only"),
    "an optimizer that is not installed": (["optim=paged_adamw_8bit", "device=cpu"], "set device to gpu"),
}
CAN = {
    "dropout on attention alone": ["lora_dropout=0.05", "target_modules=q_proj,k_proj,v_proj,o_proj"],
    "dropout on a dense model": ["base_model=Qwen/Qwen3-8B", "lora_dropout=0.05"],
    "Unsloth on a GPU": [MOE, "backend=unsloth", "device=gpu"],
    "4 bits of a dense model on a GPU": ["base_model=Qwen/Qwen3-8B", "load_in_4bit=true", "device=gpu"],
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_the_installed_stack_cannot_do_is_refused_with_what_works(case: str) -> None:
    sets, message = CANNOT[case]
    with pytest.raises(UserError, match=message):
        resolve(load_recipe(ROOT, "lora"), sets=sets)


@pytest.mark.parametrize("case", CAN)
def test_what_the_installed_stack_can_do_is_not_refused(case: str) -> None:
    assert resolve(load_recipe(ROOT, "lora"), sets=CAN[case])


def test_the_dropout_of_earlier_users_is_refused_at_its_line(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{\n  "base_model": "Qwen/Qwen3-30B-A3B",\n  "lora_dropout": 0.05\n}\n')
    with pytest.raises(UserError) as caught:
        resolve(load_recipe(ROOT, "lora"), config)
    assert str(caught.value.where).endswith("config.json:3:19")


def test_the_locks_are_hashed_hold_no_addresses_and_fit_together() -> None:
    lora = load_recipe(ROOT, "lora")
    for lock in lora.locks.values():
        text = lock.read_text()
        assert "://" not in text and "index-url" not in text
        requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert all(line.endswith("\\") and "==" in line for line in requirements)
        assert {"torch", "transformers", "peft", "accelerate"} <= locked_packages(lock).keys()
    assert "unsloth" in locked_packages(lora.locks["gpu"]) and "unsloth" not in locked_packages(lora.locks["cpu"])


def test_the_lock_follows_the_device_and_the_machine() -> None:
    lora, command = load_recipe(ROOT, "lora"), load_recipe(ROOT, "command")
    assert lock_for(lora, resolve(lora), gpu=False) == lora.locks["cpu"]
    assert lock_for(lora, resolve(lora), gpu=True) == lora.locks["gpu"]
    assert lock_for(lora, resolve(lora, sets=["device=cpu"]), gpu=True) == lora.locks["cpu"]
    assert lock_for(command, resolve(command, sets=[f"script={COUNT}"])) is None


def test_words_behind_the_dashes_are_the_command_of_a_recipe_that_has_one() -> None:
    words = ["python", "train.py", "--lr", "1e-4", "two words", "it's"]
    command = load_recipe(ROOT, "command")
    values = resolve(command, sets=sets_with(command, ["code=none"], words))
    assert values["command"] == words and values["code"] is None and artefacts_of(command, values) == []
    for behind in (words, []):
        with pytest.raises(UserError, match="recipe lora takes no command behind --"):
            sets_with(load_recipe(ROOT, "lora"), [], behind)
    for empty in ([], [""], [" ", "x"]):
        with pytest.raises(UserError, match="has nothing to run"):
            resolve(command, sets=sets_with(command, ["code=none"], empty))
    for wrong in (["script=" + str(COUNT)], ["args=1"]):
        with pytest.raises(UserError, match=r"only one can run|belong to a script"):
            resolve(command, sets=sets_with(command, wrong, words))


@pytest.mark.parametrize("nothing", ["outputs=", "outputs=[]", 'outputs=[""]', 'outputs=["!**/tmp"]'])
def test_outputs_that_name_nothing_are_refused_before_anything_is_rented(nothing: str) -> None:
    command = load_recipe(ROOT, "command")
    with pytest.raises(UserError, match="outputs name nothing that could be the result"):
        resolve(command, sets=[f"script={COUNT}", nothing])
    assert resolve(command, sets=[f"script={COUNT}", "outputs=out/**,!out/tmp"])["outputs"] == ["out/**", "!out/tmp"]


def test_the_recipe_command_needs_a_script_and_expects_what_it_is_told() -> None:
    command = load_recipe(ROOT, "command")
    with pytest.raises(UserError, match="has nothing to run"):
        resolve(command)
    values = resolve(command, sets=[f"script={COUNT}", "expect=report.md,model/*", "disk_gb=3"])
    assert artefacts_of(command, values) == ["report.md", "model/*"]
    assert needs_of(command, values) == {"disk_gb": 3, "vram_gb": 0, "gpus": 0, "image": None}
    assert needs_of(command, {**values, "image": "a/b:1"})["image"] == "a/b:1"


def test_the_page_s_example_of_a_config_file_works_as_written(tmp_path: Path) -> None:
    page = (ROOT / "docs/your-code.md").read_text(encoding="utf-8")
    example = page.partition("The same in a file for `--config`:")[2].partition("```yaml\n")[2].partition("```")[0]
    file = tmp_path / "c.yaml"
    file.write_text(example, encoding="utf-8")

    name = recipe_named_in(file)
    values = resolve(load_recipe(ROOT, str(name)), file)

    assert (name, values["command"], values["code"]) == ("command", ["python", "train.py", "--lr", "1e-4"], str(tmp_path))


def test_a_file_for_another_recipe_is_told_which_one_knows_its_names(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("command: python train.py\ncode: .\n", encoding="utf-8")

    with pytest.raises(UserError, match="recipe lora has no variable 'command'") as wrong:
        resolve(load_recipe(ROOT, "lora"), file)
    assert str(wrong.value.hint).startswith("Recipe command knows all names of this file: say --recipe command")

    file.write_text("recipe: command\ncommand: python train.py\n", encoding="utf-8")
    with pytest.raises(UserError, match="for recipe 'command', and recipe lora was asked for"):
        resolve(load_recipe(ROOT, "lora"), file)
    file.write_text("recipe: [command]\n", encoding="utf-8")
    with pytest.raises(UserError, match="the name of a recipe"):
        recipe_named_in(file)
