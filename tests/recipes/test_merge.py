"""Recipe merge, started as on a pod: a real adapter into the weights of its base."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.trainings import Training, ask, environment, loaded_environment, python
from trainyard.recipes import bundle
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

ROWS = [{"instruction": f"Where does engine {each} stand?", "output": f"Engine {each} stands at the north yard."} for each in range(8)]
SMALL = ("max_steps=2", "save_steps=2", "per_device_train_batch_size=1", "gradient_accumulation_steps=2", "max_seq_length=128")
FILE = "adapter_config.json"


@pytest.fixture(scope="module")
def envs() -> Iterator[Path]:
    with loaded_environment(environment()) as folder:
        yield folder


@pytest.fixture(scope="module")
def adapter(envs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Training(tmp_path_factory.mktemp("lora") / "run", envs, ROWS, *SMALL).done().model


def merged(folder: Path, envs: Path, adapter: Path, base: str) -> tuple[int, str, Path]:
    """Merge as on a pod; return exit code, log, and what it left."""
    recipe = load_recipe(ROOT, "merge")
    values = resolve(recipe, sets=["device=cpu", f"base_model={base}"])
    data = inspect(str(adapter), recipe, values=values)
    bundle.build(recipe, values, data, folder / "run")
    bundle.place_data(data, folder / "input")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TRAINYARD_ENVS": str(envs), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(["sh", folder / "run" / "run.sh"], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, folder / "output"


def answer(folder: Path, question: str) -> str:
    """Return what `invoke ask` prints of a folder."""
    argv: list[str | Path] = [python(environment()), ROOT / "templates" / "merge" / "ask.py"]
    env = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "templates" / "common")}
    prompts = [[{"role": "user", "content": question}]]
    order = {"folder": str(folder), "base": "tiny-qwen3-moe", "of": "model", "prompts": prompts, "tokens": 12}
    done = subprocess.run(argv, env=env, input=json.dumps(order), stdout=subprocess.PIPE, text=True, check=True)
    return str(json.loads(done.stdout)["text"])


@pytest.mark.torch
@pytest.mark.timeout(900)
def test_a_merged_model_says_what_its_base_says_with_the_adapter(tmp_path: Path, envs: Path, adapter: Path) -> None:
    code, log, output = merged(tmp_path, envs, adapter, "tiny-qwen3-moe")

    assert code == 0, log
    assert not [path.name for path in (output / "model").iterdir() if "adapter" in path.name]
    result = json.loads((output / "result.json").read_text())
    assert (result["base_model"], result["dtype"]) == ("tiny-qwen3-moe", "float32")
    question = "Where does engine 3 stand?"
    assert ask(environment(), output / "model", None, question) == ask(environment(), adapter / "base", adapter, question)
    assert answer(output / "model", question) == answer(adapter, question)


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
def test_an_adapter_of_another_base_is_refused_and_leaves_no_model(tmp_path: Path, envs: Path, adapter: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(adapter, other, ignore=shutil.ignore_patterns("base"))
    code, log, output = merged(tmp_path, envs, other, "Qwen/Qwen3-0.6B")

    assert code == 2 and "the adapter is one of tiny-qwen3-moe, not of Qwen/Qwen3-0.6B" in log
    assert not (output / "model").exists() and not (output / "result.json").exists()


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
def test_an_adapter_whose_layers_its_base_lacks_is_refused(tmp_path: Path, envs: Path, adapter: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    known = json.loads((other / FILE).read_text())
    known["r"] *= 2
    (other / FILE).write_text(json.dumps(known))
    code, log, output = merged(tmp_path, envs, other, "tiny-qwen3-moe")

    assert code == 2 and "the adapter does not fit its base" in log
    assert not (output / "model").exists()
