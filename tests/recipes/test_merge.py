"""Recipe merge, started as on a pod: a real adapter into the weights of its base."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.trainings import Training, ask, environment, loaded_environment, python
from trainyard.recipes import bundle
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.declaration import read_declaration
from trainyard.recipes.values import resolve
from trainyard.runs.life.judge import last_words

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
    words: list[str | Path] = ["sh", folder / "run" / "run.sh"]
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout, folder / "output"


def answer(folder: Path, question: str) -> str:
    """Return what `invoke ask` prints of a folder."""
    argv: list[str | Path] = [python(environment()), ROOT / "templates" / "merge" / "ask.py"]
    env = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "templates" / "common")}
    prompts = [[{"role": "user", "content": question}]]
    order = {"folder": str(folder), "base": "tiny-qwen3-moe", "of": "model", "prompts": prompts, "tokens": 12}
    done = subprocess.run(argv, env=env, input=json.dumps(order), stdout=subprocess.PIPE, text=True, check=True)
    return str(json.loads(done.stdout)["text"])


@pytest.mark.torch
@pytest.mark.long
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


def in_weights(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda adapter: (adapter / name).write_bytes(edit((adapter / name).read_bytes()))


def no_numbers(weights: bytes) -> bytes:
    head = int.from_bytes(weights[:8], "little")
    numbers: bytes = struct.pack("<f", float("nan")) * ((len(weights) - 8 - head) // 4)
    return weights[: 8 + head] + numbers


def without(name: str) -> Callable[[Path], object]:
    return lambda adapter: (adapter / name).unlink()


def of_kind(adapter: Path) -> None:
    (adapter / FILE).write_text(json.dumps(json.loads((adapter / FILE).read_text()) | {"peft_type": "ODD"}))


WRONG: dict[str, tuple[Callable[[Path], object], int, str, str]] = {
    "no numbers": (in_weights("adapter_model.safetensors", no_numbers), 1, "NaNs detected", "with a lower learning_rate"),
    "cut short": (in_weights("base/model.safetensors", lambda weights: weights[:-100]), 1, "SafetensorError", "damaged or cut short"),
    "two": (lambda adapter: shutil.copytree(adapter, adapter / "again"), 2, "the data hold 2 adapters", ""),
    "odd kind": (of_kind, 2, "adapter_config.json: the adapter is of kind ODD, and only one of LoRA", ""),
    "torn settings": (in_weights(FILE, lambda text: text[:-9]), 2, "adapter_config.json cannot be used: JSONDecodeError", ""),
    "no weights": (without("adapter_model.safetensors"), 2, "without its weights (adapter_model.safetensors)", ""),
    "no tokenizer": (without("tokenizer.json"), 2, "the tokenizer beside the model (tokenizer.json) cannot", ""),
}


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_merged_ends_in_a_sentence_and_leaves_no_model(tmp_path: Path, envs: Path, adapter: Path, kind: str) -> None:
    change, expected, said, remedy = WRONG[kind]
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    change(other)
    code, log, output = merged(tmp_path, envs, other, "tiny-qwen3-moe")

    assert code == expected and said in log and ("Traceback" in log) == (code == 1)
    assert not (output / "model").exists() and not (output / "result.json").exists()
    (tmp_path / "log").write_text(log)
    words = last_words(read_declaration((tmp_path / "run" / "recipe.json").read_bytes(), "recipe.json"), tmp_path / "log")
    assert remedy in words[-1] and "failed (exit code" in words[-2 if remedy else -1]


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_merge_that_was_killed_while_it_saved_leaves_no_model_and_the_next_one_does(tmp_path: Path, envs: Path, adapter: Path) -> None:
    recipe = load_recipe(ROOT, "merge")
    values = resolve(recipe, sets=["device=cpu", "base_model=tiny-qwen3-moe"])
    data = inspect(str(adapter), recipe, values=values)
    bundle.build(recipe, values, data, tmp_path / "run")
    bundle.place_data(data, tmp_path / "input")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TRAINYARD_ENVS": str(envs), "HF_HUB_OFFLINE": "1"}
    output, words = tmp_path / "output", ["sh", str(tmp_path / "run" / "run.sh")]
    first = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while first.poll() is None and not (output / ".model.partial").exists():
        time.sleep(0.005)
    os.killpg(first.pid, signal.SIGKILL)

    assert first.wait() == -signal.SIGKILL and not (output / "model").exists() and not (output / "result.json").exists()
    subprocess.run(words, env=env, check=True, capture_output=True)
    assert (output / "result.json").exists() and not (output / ".model.partial").exists()
    assert (output / "model" / "model.safetensors").stat().st_size > 500_000
