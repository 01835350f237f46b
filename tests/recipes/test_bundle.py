"""The bundle: the same bytes for the same run, everything named, nothing of the machine it was made on."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import COUNT, ROOT
from trainyard.errors import UserError
from trainyard.recipes import bundle
from trainyard.recipes.bundle import Bundle
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve


def build(recipe: Recipe, dest: Path, sets: list[str] | tuple[Any, ...] = (), data: str | None = None) -> Bundle:
    values = resolve(recipe, sets=sets)
    return bundle.build(recipe, values, inspect(data, recipe), dest)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(load_recipe(ROOT, "lora"), tmp_path_factory.mktemp("b") / "run")


def test_the_same_run_gives_the_same_bytes_wherever_its_files_lie(lora: Bundle, tmp_path: Path) -> None:
    recipe = load_recipe(ROOT, "lora")
    shutil.copy(recipe.folder / "sample.jsonl", tmp_path / "sample.jsonl")
    again = build(recipe, tmp_path / "other", data=str(tmp_path / "sample.jsonl"))
    assert again.sha256 == lora.sha256

    script = tmp_path / "count.sh"
    shutil.copy(COUNT, script)
    command = load_recipe(ROOT, "command")
    one, two = build(command, tmp_path / "1", [f"script={COUNT}"]), build(command, tmp_path / "2", [f"script={script}"])
    assert one.sha256 == two.sha256


def test_another_value_or_other_data_give_another_bundle(lora: Bundle, tmp_path: Path) -> None:
    recipe = load_recipe(ROOT, "lora")
    (tmp_path / "sample.jsonl").write_text('{"text": "a"}\n')
    assert build(recipe, tmp_path / "a", ["seed=1"]).sha256 != lora.sha256
    assert build(recipe, tmp_path / "b", data=str(tmp_path / "sample.jsonl")).sha256 != lora.sha256


def test_every_file_is_named_with_its_sha256(lora: Bundle) -> None:
    listed = dict(line.split("  ")[::-1] for line in (lora.dir / "bundle.sha256").read_text().splitlines())
    there = {path.relative_to(lora.dir).as_posix() for path in lora.dir.rglob("*") if path.is_file()}
    assert there == {*listed, "bundle.sha256"} == set(lora.files)
    assert {
        "run.sh",
        "train.py",
        "config.json",
        "cpu.lock",
        "gpu.lock",
        "watchdog.py",
        "rows.py",
        "forms.py",
        "basemodel.py",
    } <= there
    for name, digest in listed.items():
        assert hashlib.sha256((lora.dir / name).read_bytes()).hexdigest() == digest
    assert hashlib.sha256((lora.dir / "bundle.sha256").read_bytes()).hexdigest() == lora.sha256


def test_what_goes_to_a_pod_imports_nothing_of_trainyard(lora: Bundle) -> None:
    trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in lora.dir.rglob("*.py")}
    names = {
        (file, name)
        for file, tree in trees.items()
        for node in ast.walk(tree)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(getattr(node, "module", None))])
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }

    assert {"rows.py", "train.py", "watchdog.py"} <= set(trees)
    assert [(file, name) for file, name in names if name.split(".")[0] == "trainyard"] == []


def test_no_path_of_this_machine_is_in_the_bundle(lora: Bundle, tmp_path: Path) -> None:
    command = build(load_recipe(ROOT, "command"), tmp_path / "c", [f"script={COUNT}"])
    for folder in (lora.dir, command.dir):
        for path in folder.rglob("*"):
            assert not path.is_file() or str(ROOT) not in path.read_text(), path


def test_the_rendered_python_is_valid_for_every_backend(tmp_path: Path) -> None:
    cases = [
        [],
        ["base_model=Qwen/Qwen3-8B"],
        ["base_model=Qwen/Qwen3-8B", "load_in_4bit=true"],
        ["base_model=Qwen/Qwen3-30B-A3B", "backend=unsloth"],
    ]
    for number, sets in enumerate(cases):
        made = build(load_recipe(ROOT, "lora"), tmp_path / str(number), sets)
        for path in made.dir.glob("*.py"):
            compile(path.read_text(), str(path), "exec")
    text = (tmp_path / "3" / "model.py").read_text()
    assert text.index("from unsloth import") < text.index("import torch")


def test_the_config_of_a_bundle_is_a_config_file_for_the_same_run(lora: Bundle, tmp_path: Path) -> None:
    recipe = load_recipe(ROOT, "lora")
    assert resolve(recipe, lora.dir / "config.json") == resolve(recipe)
    command = load_recipe(ROOT, "command")
    first = build(command, tmp_path / "1", [f"script={COUNT}", "args=3 'a b'"])
    again = bundle.build(command, resolve(command, first.dir / "config.json"), inspect(None, command), tmp_path / "2")
    assert again.sha256 == first.sha256


def test_the_declaration_travels_with_the_run(lora: Bundle) -> None:
    declared = json.loads((lora.dir / "recipe.json").read_text())
    assert declared["verdict"] == {
        "exit_codes": [0],
        "stopped": [75, 143],
        "artefacts": ["model/adapter_model.safetensors", "model/adapter_config.json", "model/tokenizer.json", "result.json"],
    }
    assert "checkpoint-*" in declared["excludes"] and declared["packages"]["cpu"]["peft"]
    assert {"save_steps", "device"} <= set(declared["resume_may_change"]) and "seed" not in declared["resume_may_change"]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UserError, match="is not an empty folder"):
        build(load_recipe(ROOT, "command"), tmp_path, [f"script={COUNT}"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_data_of_a_bucket_and_of_the_hub_are_named_without_any_url(tmp_path: Path) -> None:
    made = build(load_recipe(ROOT, "lora"), tmp_path / "b", data="hf://owner/name@v1")
    assert json.loads((made.dir / "data.json").read_text())["hub"] == {"repo": "owner/name", "revision": "v1", "path": None, "split": None}
    assert "fetch.py" in made.files and (made.dir / "data.sha256").read_text() == ""


@pytest.mark.parametrize("shell", [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)])
def test_every_shell_reads_run_sh(lora: Bundle, shell: str) -> None:
    command = [shell, "sh"] if shell == "busybox" else [shell]
    assert subprocess.run([*command, "-n", lora.dir / "run.sh"], capture_output=True, text=True).stderr == ""
