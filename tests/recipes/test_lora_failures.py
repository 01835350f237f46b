"""How trainings of recipe lora fail as they do for people, each made for real: the sentence that it ends in, and what to do about it.

Needs the recipe's environment, as test_lora_training does. `invoke recipes.long` runs it; docs/recipes/lora.md has the table.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.hub import Hub, Model
from tests.recipes.test_lora_training import SETS, rows
from tests.recipes.trainings import Training, environment, python
from trainyard.recipes import bundle
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.declaration import read_declaration
from trainyard.recipes.values import resolve
from trainyard.runs.life.judge import last_words

PAGE = (ROOT / "docs" / "recipes" / "lora.md").read_text()
ROWS = [{"instruction": f"Where is engine {number}?", "output": f"At yard {number}. " * (1 if number else 40)} for number in range(24)]
TOOL = {"type": "function", "function": {"name": "where", "parameters": {"type": "object", "properties": {}}}}
SPOKEN = {"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "At the yard."}], "tools": [TOOL]}
HUGE = ("per_device_train_batch_size=4096", "max_seq_length=256")
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Failure:
    """What is wrong, and what is said of it."""

    ends_in: str
    """Of the log's last lines, as the page has it."""
    remedy: str
    """Of the line that stands behind them, where the recipe knows one."""
    code: int = 2
    sets: tuple[str, ...] = ()
    change: Change = lambda base: None
    """Made to the base's folder."""
    base: str | None = None
    """Instead of that folder."""
    rows: int = 24
    row: Mapping[str, Any] | None = None
    """One more, which is judged on the pod alone: whether the base's template carries it."""
    disk: str | None = None
    memory: int | None = None
    python: bool = False
    """With the environment's Python as if it were the image's, so that none is built for a GPU."""
    listens: bool = True
    """Whether there is a Hub."""


def config(**changes: Any) -> Change:
    def change(base: Path) -> None:
        path = base / "config.json"
        known = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in (known | changes).items() if value is not None}))

    return change


def no_numbers(base: Path) -> None:
    """Make the weights of half of its words no numbers, as a broken conversion does."""
    path = base / "model.safetensors"
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    begin, end = json.loads(data[8 : 8 + length])["model.embed_tokens.weight"]["data_offsets"]
    middle = 8 + length + (begin + end) // 2 // 4 * 4
    data[middle : 8 + length + end] = struct.pack("<f", float("nan")) * ((8 + length + end - middle) // 4)
    path.write_bytes(data)


def in_16_bit_floats(base: Path) -> None:
    """Save its weights as fp16, as many older bases are."""
    path = base / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head, body, values = json.loads(data[8 : 8 + length]), bytearray(), data[8 + length :]
    for name, item in head.items():
        if name != "__metadata__":
            begin, end = item["data_offsets"]
            offset, count = len(body), (end - begin) // 4
            body += struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", values[begin:end]))
            item |= {"dtype": "F16", "data_offsets": [offset, len(body)]}
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))
    config(dtype="float16")(base)


def cut(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def no_template(base: Path) -> None:
    """Take its chat template away."""
    (base / "chat_template.jinja").unlink(missing_ok=True)
    path = base / "tokenizer_config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "chat_template"}))


FAILURES = {
    "gated": Failure("You are trying to access a gated repo", "accept its terms on the Hub", 1, base="meta/Gated-8B"),
    "not there": Failure("is not a valid model identifier", "There is no such base_model on the Hub", 1, base="meta/None-8B"),
    "no Hub": Failure("We couldn't connect to", "does not reach the Hugging Face Hub", 1, base="meta/Open-8B", listens=False),
    "no folder": Failure("there is no such folder on this pod", "a folder of another machine", base="/nowhere/base"),
    "damaged weights": Failure("SafetensorError: Error while deserializing header", "damaged or cut short", 1, change=cut),
    "unknown kind": Failure("does not recognize this architecture", "does not know this kind", 1, change=config(model_type="mamba9")),
    "bad target": Failure("has no q_porj; it has ", "Name layers that the base has", sets=("target_modules=q_porj",)),
    "too long": Failure("is more than the 256 positions of", "Set max_seq_length", sets=("max_seq_length=4096",)),
    "template missing": Failure("chat_template llama3 needs the tokens", "", change=no_template, sets=("chat_template=llama3",)),
    "not a number": Failure("the loss is nan at step 1", "Lower learning_rate", change=no_numbers),
    "no GPU": Failure("a GPU is asked for, but torch sees none", "no GPU that its driver shows", sets=("device=gpu",), python=True),
    "memory full": Failure("can't allocate memory", "memory is full, not the GPU's", 1, memory=2 << 30, sets=HUGE, rows=4096),
    "rows": Failure("rows cannot be trained:", "Mend these rows", row=SPOKEN, sets=("chat_template=plain",)),
    "disk full": Failure("unexpected pos", "The pod's disk is full", 1, disk="300k"),
}
"""What the page's table has; '' where the sentence itself says what to do."""


@pytest.fixture(scope="module")
def own_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base as a folder: what a first training has made, with its tokenizer."""
    folder = tmp_path_factory.mktemp("made")
    model = Training(folder / "first", environment(), rows(), *SETS, "max_steps=1").done().model
    for path in model.glob("*token*"):
        shutil.copy(path, model / "base")
    for path in model.glob("chat_template*"):
        shutil.copy(path, model / "base")
    return model / "base"


def start(folder: Path, base: str, failure: Failure, env: dict[str, str]) -> subprocess.Popen[bytes]:
    recipe = load_recipe(ROOT, "lora")
    rows = [*(ROWS * failure.rows)[: failure.rows], *([failure.row] if failure.row else [])]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = ("max_seq_length=128", "max_steps=3", "save_steps=1", "per_device_train_batch_size=2", "gradient_accumulation_steps=1")
    device = [f"python={python(environment())}"] if failure.python else ["device=cpu"]
    values = resolve(recipe, sets=[f"base_model={base}", *device, *sets, *failure.sets])
    found = inspect(str(folder / "rows.jsonl"), recipe, values=values)
    bundle.build(recipe, values, found, folder / "run")
    bundle.place_data(found, folder / "input")
    words = ["sh", str(folder / "run" / "run.sh")]
    if failure.disk:
        output = folder / "output"
        output.mkdir()
        words = [
            "unshare",
            "-rm",
            "sh",
            "-c",
            f'mount -t tmpfs -o size={failure.disk} none "$1" && exec sh "$2"',
            "sh",
            str(output),
            words[1],
        ]
    limit = failure.memory

    def limited() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    with (folder / "log").open("wb") as log:
        return subprocess.Popen(words, env=env | {"TRAINYARD_ENVS": str(environment())}, stdout=log, stderr=log, preexec_fn=limited)


@pytest.mark.long
@pytest.mark.torch
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_that_people_meet_ends_in_a_sentence_and_what_to_do(kind: str, tmp_path: Path, own_base: Path) -> None:
    failure = FAILURES[kind]
    base = tmp_path / "base"
    shutil.copytree(own_base, base)
    failure.change(base)
    name = failure.base or str(base)
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    with Hub({"meta/Gated-8B": Model({}, gated=True), "meta/Open-8B": Model({})}) as hub:
        env["HF_ENDPOINT"] = hub.endpoint if failure.listens else "http://127.0.0.1:9"
        code = start(tmp_path, name, failure, env).wait(800)
        hub.shutdown()
    words = last_words(read_declaration((tmp_path / "run" / "recipe.json").read_bytes(), "recipe.json"), tmp_path / "log")
    assert code == failure.code, words
    assert any(failure.ends_in in line for line in words[-8:]) and failure.remedy in words[-1], words
    assert "failed (exit code" in words[-2 if failure.remedy else -1], "one thing to do, not several"
    assert failure.ends_in in PAGE, "the page has what was seen"


@pytest.mark.long
@pytest.mark.torch
@pytest.mark.timeout(900)
def test_a_base_that_was_saved_in_16_bit_floats_is_trained_in_a_precision_that_holds(tmp_path: Path, own_base: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(own_base, base)
    in_16_bit_floats(base)
    assert start(tmp_path, str(base), Failure("", ""), {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}).wait(800) == 0
    report = json.loads((tmp_path / "output" / "result.json").read_text())
    assert report["precision"] == "float32" and report["steps"] == 3 and 0 < report["final_loss"] < 10
